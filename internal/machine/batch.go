package machine

// Grow returns room for n things at least, with those that it had.
func Grow[T any](room []T, n int) []T {
	if n <= len(room) {
		return room
	}
	return append(make([]T, 0, n), room...)[:n]
}
