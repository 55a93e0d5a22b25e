package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// values are those of flags that have a few, by name, wherever they stand.
var values = map[string][]string{
	"level":      {"fast", "standard", "high", "extreme"},
	"profile":    {"full", "mobile", "low"},
	"carrier":    {"auto", "udp", "quic", "websocket"},
	"congestion": {"bbr", "cubic", "fixed"},
	"phase":      {"alpha", "beta", "gamma", "delta"},
	"kem":        {"1", "2"},
}

// complete says what a shell completes after a flag: its values, a TOML file, or a
// directory; of other flags it is any file.
func complete(c *cobra.Command, flag string) {
	switch flag {
	case "network", "config":
		c.MarkFlagFilename(flag, "toml")
	case "data", "dir", "keys", "run", "wallet", "state":
		c.MarkFlagDirname(flag)
	default:
		if v, ok := values[flag]; ok {
			c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(v, cobra.ShellCompDirectiveNoFileComp))
		}
	}
}

// Among completes arguments of which there are a few, each given once and at most so many;
// most 0 is as many as there are.
func Among(most int, all func() []cobra.Completion) cobra.CompletionFunc {
	return func(_ *cobra.Command, given []string, _ string) (left []cobra.Completion, _ cobra.ShellCompDirective) {
		if most > 0 && len(given) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		for _, one := range all() {
			name, _, _ := strings.Cut(one, "\t")
			if !slices.Contains(given, name) {
				left = append(left, one)
			}
		}
		return left, cobra.ShellCompDirectiveNoFileComp
	}
}

// subcommands completes the words of a command's path, as of man.
func subcommands(root *cobra.Command) cobra.CompletionFunc {
	return func(_ *cobra.Command, given []string, _ string) (next []cobra.Completion, _ cobra.ShellCompDirective) {
		of, rest, err := root.Find(given)
		if err != nil || len(rest) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		for _, s := range of.Commands() {
			if s.IsAvailableCommand() {
				next = append(next, cobra.CompletionWithDesc(s.Name(), s.Short))
			}
		}
		return next, cobra.ShellCompDirectiveNoFileComp
	}
}

// shell is one that can complete, and how its user has it do so; %[1]s is the program.
type shell struct {
	name, use string
	write     func(root *cobra.Command, to io.Writer) error
}

var shells = []shell{
	{"bash", "  source <(%[1]s completion bash)\n  %[1]s completion bash > /etc/bash_completion.d/%[1]s", func(root *cobra.Command, to io.Writer) error { return root.GenBashCompletionV2(to, true) }},
	{"zsh", "  source <(%[1]s completion zsh)\n  %[1]s completion zsh > \"${fpath[1]}/_%[1]s\"", (*cobra.Command).GenZshCompletion},
	{"fish", "  %[1]s completion fish | source\n  %[1]s completion fish > ~/.config/fish/completions/%[1]s.fish", func(root *cobra.Command, to io.Writer) error { return root.GenFishCompletion(to, true) }},
	{"powershell", "  %[1]s completion powershell | Out-String | Invoke-Expression", (*cobra.Command).GenPowerShellCompletionWithDesc},
}

// completion is the command that cobra would add, which takes the name of any shell and
// succeeds.
func completion(root *cobra.Command) *cobra.Command {
	var names, uses []string
	for _, s := range shells {
		names, uses = append(names, s.name), append(uses, fmt.Sprintf(s.use, root.Name()))
	}
	return &cobra.Command{
		Use:       "completion " + strings.Join(names, "|"),
		Short:     "Print what a shell completes commands, flags and their values by",
		Long:      "Prints the completion script of a shell. The examples have one read it: the shell that runs, or those that start later.",
		Example:   strings.Join(uses, "\n"),
		ValidArgs: names,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(names, args[0]) {
				return fmt.Errorf("name one shell of %s", strings.Join(names, ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return shells[slices.Index(names, args[0])].write(root, cmd.OutOrStdout())
		},
	}
}

// completeFlags has shells complete the flags of all commands below one.
func completeFlags(root *cobra.Command) {
	visit(root, func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { complete(c, f.Name) })
	})
}
