package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// documents are the files whose commands people copy.
var documents = []string{"README.md", "README.ja.md", "CONTRIBUTING.md", "docs/configuration.md", "docs/anonymity.md"}

const repositoryRoot = "../.."

// commandLine is one line of a fenced sh block.
type commandLine struct {
	file string
	line int
	args []string
}

// shLines returns the lines of the fenced sh blocks of a document.
func shLines(t *testing.T, file string) (lines []commandLine) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repositoryRoot, filepath.FromSlash(file)))
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for i, line := range strings.Split(string(b), "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```sh"
		case inside:
			line, _, _ = strings.Cut(line, "#")
			if args := strings.Fields(line); len(args) > 0 {
				lines = append(lines, commandLine{file, i + 1, args})
			}
		}
	}
	return lines
}

// checkNyx says what is wrong with the arguments of nyx, or "".
func checkNyx(args []string) string {
	cmd, rest, err := root().Find(args)
	if err != nil {
		return err.Error()
	}
	if cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return "there is no command " + rest[0]
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err.Error()
	}
	if err := cmd.ValidateRequiredFlags(); err != nil {
		return err.Error()
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err.Error()
	}
	path := append(slices.Clone(strings.Fields(cmd.CommandPath())[1:]), "--help")
	help := root()
	var out bytes.Buffer
	help.SetOut(&out)
	help.SetArgs(path)
	if err := help.Execute(); err != nil {
		return err.Error()
	}
	if !strings.Contains(out.String(), "Usage:") {
		return "its --help prints no usage"
	}
	return ""
}

// goVerbs are the go commands that the documents use.
var goVerbs = []string{"build", "run", "test"}

// checkGo says what is wrong with the arguments of go, or "". What follows the
// package of go run is checked as arguments of that program.
func checkGo(args []string) string {
	if len(args) == 0 || !slices.Contains(goVerbs, args[0]) {
		return "only go " + strings.Join(goVerbs, ", ") + " are known here"
	}
	for i, a := range args[1:] {
		if !strings.HasPrefix(a, "./") {
			continue
		}
		dir := filepath.Join(repositoryRoot, filepath.FromSlash(strings.TrimSuffix(a, "...")))
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return "there is no package " + a
		}
		if args[0] == "run" {
			if a != "./cmd/nyx" {
				return "the documents run ./cmd/nyx only"
			}
			return checkNyx(args[i+2:])
		}
		return ""
	}
	return "names no package"
}

// TestREADMECommands: the commands in the documents exist, with their flags
// and arguments.
func TestREADMECommands(t *testing.T) {
	checked := 0
	for _, file := range documents {
		for _, l := range shLines(t, file) {
			wrong := ""
			switch l.args[0] {
			case "nyx":
				wrong = checkNyx(l.args[1:])
			case "go":
				wrong = checkGo(l.args[1:])
			default:
				continue
			}
			checked++
			if wrong != "" {
				t.Errorf("%s:%d: %s: %s", l.file, l.line, strings.Join(l.args, " "), wrong)
			}
		}
	}
	if checked < 10 {
		t.Errorf("only %d commands were found", checked)
	}
}

// TestREADMEHasTwoSetUpCommands: what a newcomer has to type stays short, and
// the same in both languages.
func TestREADMEHasTwoSetUpCommands(t *testing.T) {
	for _, file := range []string{"README.md", "README.ja.md"} {
		var got []string
		for _, l := range shLines(t, file) {
			got = append(got, strings.Join(l.args, " "))
		}
		want := []string{"go run ./cmd/nyx up", "curl --socks5-hostname 127.0.0.1:9150 http://example.com/", "go test ./..."}
		if !slices.Equal(got, want) {
			t.Errorf("%s: commands %q, want %q", file, got, want)
		}
	}
}

// TestDocsNameEveryFlag: docs/configuration.md has a section for each command,
// and in it each of its flags and no other.
func TestDocsNameEveryFlag(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(repositoryRoot, "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, s := range strings.Split(string(b), "\n#")[1:] {
		title, body, _ := strings.Cut(s, "\n")
		sections[strings.TrimLeft(title, "# ")] = body
	}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			visit(sub)
		}
		if !c.Runnable() || c.HasSubCommands() {
			return
		}
		section, ok := sections[c.CommandPath()]
		if !ok {
			t.Errorf("docs/configuration.md has no section %q", c.CommandPath())
			return
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && f.Name != "help" && !strings.Contains(section, "| `--"+f.Name+"` |") {
				t.Errorf("docs/configuration.md, section %q: no row for --%s", c.CommandPath(), f.Name)
			}
		})
		for _, line := range strings.Split(section, "\n") {
			name, found := strings.CutPrefix(line, "| `--")
			if name, _, _ = strings.Cut(name, "`"); found && c.Flags().Lookup(name) == nil {
				t.Errorf("docs/configuration.md, section %q: there is no --%s", c.CommandPath(), name)
			}
		}
	}
	visit(root())
}

// TestREADMEControl: the checks find what is wrong.
func TestREADMEControl(t *testing.T) {
	for _, line := range []string{"up --nosuch", "nosuch", "network nosuch", "up extra", "node", "bench"} {
		if checkNyx(strings.Fields(line)) == "" {
			t.Errorf("nyx %s was found to be right", line)
		}
	}
	for _, line := range []string{"run ./cmd/nosuch up", "run ./cmd/nyx nosuch", "frobnicate ./...", "test ./nosuch/...", "test"} {
		if checkGo(strings.Fields(line)) == "" {
			t.Errorf("go %s was found to be right", line)
		}
	}
}
