package console

import (
	"fmt"
	"maps"
)

// languages are those of the console, the first by default.
var languages = []string{"en", "ja"}

// say writes a text in a language. A key that is not there is a mistake of the program,
// which a test finds.
func say(lang, key string, args ...any) string {
	texts, ok := words[key]
	if !ok {
		return "⟨" + key + "⟩"
	}
	text := texts[0]
	if lang == "ja" {
		text = texts[1]
	}
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}

// words are all texts, in English and in Japanese. Values of configuration, names and
// what the audit log holds are not translated.
var words = joined(frameWords, networkWords, orderWords)

func joined(tables ...map[string][2]string) map[string][2]string {
	all := map[string][2]string{}
	for _, table := range tables {
		maps.Copy(all, table)
	}
	return all
}
