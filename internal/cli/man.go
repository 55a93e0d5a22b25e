package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Finish gives a program what is made of its own commands: manual pages, and what shells
// complete. It comes after all commands.
func Finish(root *cobra.Command) {
	root.AddCommand(man(root), completion(root))
	completeFlags(root)
}

// visit calls f of a command and all below it.
func visit(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		visit(sub, f)
	}
}

func man(root *cobra.Command) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "man [COMMAND]...",
		Short: "Print the manual page of a command, or write those of all",
		Long: `Prints the manual page of a command, of the whole program without one, or with
--dir writes a page for each command into a directory. The pages are made of what
--help prints.`,
		ValidArgsFunction: subcommands(root),
		Example:           fmt.Sprintf("  %[1]s man proxy | man -l -\n  %[1]s man --dir /usr/local/share/man/man1", root.Name()),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir != "" {
				return writePages(root, dir)
			}
			of, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return fmt.Errorf("there is no command %q; see %s --help", strings.Join(args, " "), root.Name())
			}
			return Page(cmd.OutOrStdout(), of)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory for the pages of all commands")
	return cmd
}

func writePages(root *cobra.Command, dir string) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the directory of the manual pages: %w", err)
	}
	visit(root, func(c *cobra.Command) {
		var page bytes.Buffer
		if err == nil {
			if err = Page(&page, c); err == nil {
				err = os.WriteFile(filepath.Join(dir, pageName(c)+".1"), page.Bytes(), 0o644)
			}
		}
	})
	return err
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// Page writes the manual page of a command, in the macros of man.
func Page(w io.Writer, c *cobra.Command) error {
	c.InitDefaultHelpFlag()
	var b strings.Builder
	name := pageName(c)
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"%s\" \"Nyx\"\n", strings.ToUpper(roff(name)), roff(c.Root().Name()))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(c.UseLine()))
	if c.Long != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n%s", lines(c.Long))
	}
	if subs := c.Commands(); len(subs) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, s := range subs {
			if s.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n.BR %s (1)\n%s\n", roff(pageName(s)), roff(s.Short))
			}
		}
	}
	b.WriteString(".SH OPTIONS\n")
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		kind, usage := pflag.UnquoteUsage(f)
		if kind != "" {
			kind = ` \fI` + roff(kind) + `\fR`
		}
		short := ""
		if f.Shorthand != "" {
			short = "\\-" + f.Shorthand + ", "
		}
		fmt.Fprintf(&b, ".TP\n\\fB%s\\-\\-%s\\fR%s\n%s", short, roff(f.Name), kind, roff(usage))
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "[]" && !strings.Contains(usage, "default") {
			fmt.Fprintf(&b, " (default %s)", roff(f.DefValue))
		}
		b.WriteByte('\n')
	})
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s.fi\n", lines(c.Example))
	}
	if p := c.Parent(); p != nil {
		fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (1)\n", roff(pageName(p)))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// lines is a text of several, each escaped, with breaks between paragraphs.
func lines(text string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		switch {
		case strings.TrimSpace(line) == "":
			b.WriteString(".PP\n")
		case strings.HasPrefix(line, " "):
			b.WriteString(".br\n" + roff(line) + "\n")
		default:
			b.WriteString(roff(line) + "\n")
		}
	}
	return b.String()
}

// roff escapes what means something to the formatter.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n", " ").Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
