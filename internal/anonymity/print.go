package anonymity

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Print writes the report for a person: gates, attackers over all kinds, entropies.
func (r *Report) Print(w io.Writer) error {
	fmt.Fprintf(w, "%d flows, %v, %d seeds. Figures with their 95 %% intervals over resampled flows.\n\n", r.Size.Flows, r.Size.Length, r.Seeds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LEVEL\tLOAD\tADVERSARY\tATTACKER\tAUC\tTPR AT FPR 0.001\tTOP-1")
	for _, x := range r.Results {
		if x.Kind == AllKinds {
			fmt.Fprintf(t, "%s\t%v\t%s\t%s\t%v\t%v\t%v\n", x.Level, x.Load, x.View, x.Attacker, x.AUC, x.TPR, x.Top1)
		}
	}
	fmt.Fprintln(t, "\nLEVEL\tLOAD\tREAL CELLS\tBITS AT A MIX\tBITS OVER THE PATH")
	for _, l := range r.Loads {
		fmt.Fprintf(t, "%s\t%v\t%.0f %%\t%v\t%v\n", l.Name, l.Factor, 100*l.Use, l.MixBits, l.PathBits)
	}
	fmt.Fprintln(t, "\nLEVEL\tLOAD\tADVERSARY\tKIND\tBEST ATTACKER\tAUC\tGATE\tRESULT")
	for _, o := range r.Gates {
		fmt.Fprintf(t, "%s\t%v\t%s\t%s\t%s\t%v\t%s\t%s\n", o.Level, o.Best.Load, o.View, o.Kind, o.Best.Attacker, o.Best.AUC, o.bound(), o.result())
	}
	return t.Flush()
}

// Markdown writes the tables that the documentation shows.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| level | load | adversary | flows | strongest attacker | AUC | TPR at FPR 0.001 | top-1 | bound | |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, o := range r.Gates {
		x := o.Best
		fmt.Fprintf(&b, "| %s | %v | %s | %s | %s | %v | %v | %v | %s | %s |\n", x.Level, x.Load, x.View, x.Kind, x.Attacker, x.AUC, x.TPR, x.Top1, o.bound(), o.result())
	}
	b.WriteString("\n| level | load | adversary | attacker | AUC | TPR at FPR 0.001 | top-1 |\n|---|---|---|---|---|---|---|\n")
	for _, x := range r.Results {
		if x.Kind == AllKinds {
			fmt.Fprintf(&b, "| %s | %v | %s | %s | %v | %v | %v |\n", x.Level, x.Load, x.View, x.Attacker, x.AUC, x.TPR, x.Top1)
		}
	}
	b.WriteString("\n| level | load | real cells | bits at a mix | bits over the path |\n|---|---|---|---|---|\n")
	for _, l := range r.Loads {
		if l.MixBits.Mean > 0 {
			fmt.Fprintf(&b, "| %s | %v | %.0f %% | %v | %v |\n", l.Name, l.Factor, 100*l.Use, l.MixBits, l.PathBits)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (e Entropy) String() string {
	return fmt.Sprintf("%.2f (5 %% below %.2f)", e.Mean, e.P05)
}

func (g Gate) bound() string {
	switch {
	case g.Least != 0 && g.Most != 0:
		return fmt.Sprintf("%.2f–%.2f", g.Least, g.Most)
	case g.Least != 0:
		return fmt.Sprintf("> %.2f", g.Least)
	}
	return fmt.Sprintf("≤ %.2f", g.Most)
}

// chanceMost is the AUC up to which an attacker is said to guess.
const chanceMost = 0.55

func (o Outcome) result() string {
	switch {
	case !o.Passed:
		return "beyond"
	case o.Least != 0:
		return "found, as it must be"
	case o.Best.AUC.Low <= chanceMost && o.Best.AUC.Value <= chanceMost:
		return "at chance"
	case o.Known != "":
		return "known: " + o.Known
	}
	return "within"
}
