// Go assembly is no C.
