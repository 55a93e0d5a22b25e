package control

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nyxnet/nyx/internal/wire"
)

func TestChecksComeBack(t *testing.T) {
	c := Checks{Region: "eu"}
	for place := range NumQuestions {
		c.Questions = append(c.Questions, QuestionAt(place))
	}
	got, err := ParseChecks(c.Encode())
	if err != nil || !reflect.DeepEqual(got, c) {
		t.Fatalf("came back as %+v, %v", got, err)
	}
	if n := len(c.Encode()); n > ChecksMax {
		t.Errorf("all questions are %d bytes", n)
	}
	all := []Decision{
		{PerMinute: 9, Lifetime: time.Minute, CacheFor: time.Hour, Work: 12, Revision: "7"},
		{Refused: wire.RefusedFull, CacheFor: time.Second},
	}
	back, err := ParseDecisions(EncodeDecisions(all), 2)
	if err != nil || !reflect.DeepEqual(back, all) {
		t.Errorf("came back as %+v, %v", back, err)
	}
}

// What nobody should send is refused with a word of why.
func TestBadChecksAreRefused(t *testing.T) {
	for _, bad := range []string{
		``, `{}`, `[]`, `{"region":"eu","questions":[]}`, `{"region":"eu","questions":[{"credential":"root","level":"fast","load":"calm"}]}`,
		`{"region":"eu","questions":[{"credential":"none","level":"fast","load":"calm","client":"192.0.2.1"}]}`,
		`{"region":"eu","questions":[{"credential":"none","level":"fast","load":"calm"}]} {}`,
		`{"region":"` + strings.Repeat("x", 65) + `","questions":[{"credential":"none","level":"fast","load":"calm"}]}`,
	} {
		if _, err := ParseChecks([]byte(bad)); err == nil {
			t.Errorf("%.60s was accepted", bad)
		}
	}
	for _, bad := range []string{
		`{"decisions":[]}`, `{"decisions":[{"accept":true}]}`, `{"decisions":[{"accept":false,"cache_s":60}]}`,
		`{"decisions":[{"accept":true,"reason":1,"cache_s":60}]}`, `{"decisions":[{"accept":false,"reason":6,"cache_s":60}]}`,
		`{"decisions":[{"accept":true,"cache_s":9223372036854775807}]}`, `{"decisions":[{"accept":true,"cache_s":60,"work":200}]}`,
		`{"decisions":[{"accept":true,"cache_s":60,"lifetime_s":-1}]}`, `{"decisions":[{"accept":true,"cache_s":60,"per_minute":-5}]}`,
	} {
		if _, err := ParseDecisions([]byte(bad), 1); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

func FuzzParseChecks(f *testing.F) {
	f.Add((&Checks{Region: "eu", Questions: []Question{{}}}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseChecks(b)
		if err != nil {
			return
		}
		if again, err := ParseChecks(c.Encode()); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%+v came back as %+v, %v", c, again, err)
		}
	})
}
