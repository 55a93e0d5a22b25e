// Package archtest holds the architecture as tests: the ranks of packages and
// their one direction of imports, what a protocol core may not do, where
// cryptography may stand, that no C is in the build, what nyx-lite links, and
// that the documentation names only files and functions that exist.
//
// Every rule has a negative control: a source tree in testdata/controls with
// one violation per marked line, all of which must be found, and no other.
package archtest
