package lab

// Funcs returns what executes the scenarios, by id.
func Funcs() map[string]Func {
	return map[string]Func{}
}
