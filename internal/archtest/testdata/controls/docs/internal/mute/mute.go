// Package mute is named by no document.
package mute
