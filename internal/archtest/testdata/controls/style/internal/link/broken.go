package util // want "does not parse" // want "package name util" // want "has no package comment"

func f( {
