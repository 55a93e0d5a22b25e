package s3

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	algorithm = "AWS4-HMAC-SHA256"
	stamp     = "20060102T150405Z"
)

// Sign signs a request as AWS Signature Version 4 has it: method, path, query, all
// x-amz headers and the hash of the content. It sets the headers that it needs.
func Sign(r *http.Request, content []byte, region, id string, secret []byte, now time.Time) {
	now = now.UTC()
	sum := sha256.Sum256(content)
	hash := hex.EncodeToString(sum[:])
	r.Header.Set("X-Amz-Date", now.Format(stamp))
	r.Header.Set("X-Amz-Content-Sha256", hash)
	headers := map[string]string{"host": r.URL.Host}
	for name, values := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") {
			headers[name] = strings.Join(strings.Fields(strings.Join(values, ",")), " ")
		}
	}
	var names []string
	for name := range headers {
		names = append(names, name)
	}
	slices.Sort(names)
	signed := strings.Join(names, ";")
	var b strings.Builder
	for _, part := range []string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery} {
		b.WriteString(part + "\n")
	}
	for _, name := range names {
		b.WriteString(name + ":" + headers[name] + "\n")
	}
	b.WriteString("\n" + signed + "\n" + hash)
	request := sha256.Sum256([]byte(b.String()))

	scope := []string{now.Format("20060102"), region, "s3", "aws4_request"}
	key := append([]byte("AWS4"), secret...)
	defer clear(key)
	for _, part := range scope {
		key = keyed(key, part)
	}
	text := strings.Join([]string{algorithm, now.Format(stamp), strings.Join(scope, "/"), hex.EncodeToString(request[:])}, "\n")
	r.Header.Set("Authorization", algorithm+" Credential="+id+"/"+strings.Join(scope, "/")+",SignedHeaders="+signed+",Signature="+hex.EncodeToString(keyed(key, text)))
}

func keyed(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// escape writes a text as signatures want it: all but letters, digits and -._~ as a
// percent sign and two digits, and slashes too unless they are kept.
func escape(s string, slashes bool) string {
	out := strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
	if slashes {
		out = strings.ReplaceAll(out, "%2F", "/")
	}
	return out
}

// query writes parameters in the order of their names, as they are signed.
func query(parameters map[string]string) string {
	var out []string
	for name, value := range parameters {
		out = append(out, escape(name, false)+"="+escape(value, false))
	}
	slices.Sort(out)
	return strings.Join(out, "&")
}
