package daemon

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// TestReadOrder: a request is one order and nothing else.
func TestReadOrder(t *testing.T) {
	const one = `{"set":{"log.level":"info"}}`
	for body, ok := range map[string]bool{
		one: true, one + " \n": true, one + one: false, one + "]": false, one + " and": false, "": false, `{"sets":{}}`: false,
	} {
		if _, err := readOrder(httptest.NewRequest("POST", OperatorPath, strings.NewReader(body))); (err == nil) != ok {
			t.Errorf("%q: %v", body, err)
		}
	}
}
