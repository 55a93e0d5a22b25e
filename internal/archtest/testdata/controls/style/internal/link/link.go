package util // want "package name util says nothing"

import . "strings" // want "dot import"

// TODO: later. // want "TODO left in a comment"
var a = 1

// A todo list of TODOs is no mark.
var b = 2

// Above: FIXME, and XXX. // want "FIXME left in a comment"
