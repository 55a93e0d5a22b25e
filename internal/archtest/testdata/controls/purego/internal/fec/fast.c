int f(void) { return 1; } // want "C source or library"
