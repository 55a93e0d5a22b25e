package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nyxnet/nyx/internal/cli"
)

// everyCommand calls f of each command of the program.
func everyCommand(f func(*cobra.Command)) {
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		f(c)
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root())
}

// TestManualPagesNameEveryFlag: each command has a page, with its flags, commands and
// examples.
func TestManualPagesNameEveryFlag(t *testing.T) {
	dir := t.TempDir()
	cmd := root()
	cmd.SetArgs([]string{"man", "--dir", dir})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	pages := 0
	everyCommand(func(c *cobra.Command) {
		name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			return
		}
		pages++
		if lacks := lackedBy(c, string(b)); len(lacks) > 0 {
			t.Errorf("%s lacks %q", name, lacks)
		}
	})
	if pages < 40 {
		t.Errorf("only %d pages", pages)
	}
	if groff, err := exec.LookPath("groff"); err == nil {
		out, err := exec.Command(groff, "-man", "-Tascii", "-P-cbou", "-ww", filepath.Join(dir, "nyx-up.1")).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--stream")) || bytes.Contains(out, []byte("warning")) {
			t.Errorf("groff: %v\n%s", err, out)
		}
	}
}

// lackedBy is what a manual page lacks of a command.
func lackedBy(c *cobra.Command, page string) (lacks []string) {
	plain := strings.NewReplacer("\n", " ", `\-`, "-", `\fB`, "", `\fR`, "", `\fI`, "", `\e`, `\`).Replace(page)
	want := []string{c.Short}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			want = append(want, "--"+f.Name+" ")
		}
	})
	for _, s := range c.Commands() {
		if s.IsAvailableCommand() {
			want = append(want, strings.ReplaceAll(s.CommandPath(), " ", "-")+" (1)")
		}
	}
	for line := range strings.SplitSeq(c.Example, "\n") {
		want = append(want, strings.TrimSpace(line))
	}
	return slices.DeleteFunc(want, func(w string) bool { return strings.Contains(plain, w) })
}

// TestManualControl: a page of another command, and one without a flag, are found.
func TestManualControl(t *testing.T) {
	up, _, err := root().Find([]string{"up"})
	if err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	if err := cli.Page(&page, up); err != nil || len(lackedBy(up, page.String())) != 0 {
		t.Fatalf("%v: %q", err, lackedBy(up, page.String()))
	}
	if len(lackedBy(up, strings.Replace(page.String(), `\-\-mix`, `\-\-max`, 1))) != 1 {
		t.Error("a page without --mix was found to be whole")
	}
}

// completions are what a shell is offered after some words.
func completions(t *testing.T, words ...string) []string {
	t.Helper()
	cmd := root()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&bytes.Buffer{})
	cmd.SetArgs(append([]string{"__complete"}, words...))
	if err := cmd.Execute(); err != nil {
		t.Fatalf("%q: %v", words, err)
	}
	var offered []string
	for line := range strings.SplitSeq(out.String(), "\n") {
		word, _, _ := strings.Cut(line, "\t")
		offered = append(offered, word)
	}
	return offered
}

// required are the required flags of a command, given: before they are, no others are
// offered.
func required(c *cobra.Command) (given []string) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if _, is := f.Annotations[cobra.BashCompOneRequiredFlag]; is {
			given = append(given, "--"+f.Name+"=1")
		}
	})
	return given
}

// TestCompletionsNameEveryFlag: shells are offered each command and each of its flags, and
// the values of flags that have a few.
func TestCompletionsNameEveryFlag(t *testing.T) {
	everyCommand(func(c *cobra.Command) {
		words := strings.Fields(c.CommandPath())[1:]
		commands, flags := completions(t, append(slices.Clone(words), "")...), completions(t, append(slices.Clone(words), "--")...)
		flags = append(flags, completions(t, append(slices.Concat(words, required(c)), "--")...)...)
		for _, s := range c.Commands() {
			if s.IsAvailableCommand() && !slices.Contains(commands, s.Name()) {
				t.Errorf("%s: %s is not offered", c.CommandPath(), s.Name())
			}
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !slices.Contains(flags, "--"+f.Name) {
				t.Errorf("%s: --%s is not offered", c.CommandPath(), f.Name)
			}
		})
	})
	for flag, want := range map[string]string{"level": "standard", "profile": "mobile", "carrier": "websocket"} {
		if offered := completions(t, "proxy", "--"+flag, ""); !slices.Contains(offered, want) {
			t.Errorf("proxy --%s: %q", flag, offered)
		}
	}
	if slices.Contains(completions(t, "proxy", "--"), "--mix") {
		t.Error("control: a flag of another command is offered")
	}
}

// TestCompletionsOfArguments: shells are offered the arguments of which there are a few,
// and none that was given.
func TestCompletionsOfArguments(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  string
		not   string
	}{
		{[]string{"scenario", "run", ""}, "DF-045", ""},
		{[]string{"scenario", "run", "DF-045", ""}, "SCL-001", "DF-045"},
		{[]string{"slo", "list", ""}, "errors", ""},
		{[]string{"slo", "list", "errors", ""}, "", "capacity"},
		{[]string{"man", ""}, "scenario", "run"},
		{[]string{"man", "scenario", ""}, "run", "scenario"},
		{[]string{"man", "nosuch", ""}, "", "scenario"},
		{[]string{"completion", ""}, "zsh", ""},
	} {
		offered := completions(t, c.words...)
		if c.want != "" && !slices.Contains(offered, c.want) || c.not != "" && slices.Contains(offered, c.not) {
			t.Errorf("%q: %q", c.words, offered)
		}
	}
}

// TestNoSuchShell: the name of no shell is an error, as with other commands.
func TestNoSuchShell(t *testing.T) {
	cmd := root()
	cmd.SetOut(&bytes.Buffer{})
	cmd.SetArgs([]string{"completion", "nosuch"})
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "name one shell of bash") {
		t.Error(err)
	}
}

// TestCompletionScripts: each shell's script is one that the shell reads, where it is
// there to be asked.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		cmd := root()
		var script bytes.Buffer
		cmd.SetOut(&script)
		cmd.SetArgs([]string{"completion", shell})
		if err := cmd.Execute(); err != nil || !strings.Contains(script.String(), "__complete") {
			t.Errorf("%s: %v, %d bytes", shell, err, script.Len())
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			t.Logf("%s is not here to read its script", shell)
			continue
		}
		check := exec.Command(path, "-n", "/dev/stdin")
		check.Stdin = &script
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
}
