// Package fec calls C.
package fec

import "C" // want "Nyx is pure Go"
