package servers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nyxnet/nyx/internal/engine/s3"
)

// VersityName is the program of the Versity S3 Gateway.
const VersityName = "versitygw"

// S3 is a running server with S3's API, which keeps objects and their versions in files.
type S3 struct {
	URL, KeyID, Secret string

	process      *process
	program, dir string
}

// StartS3 starts the program in a directory.
func StartS3(program, dir string) (*S3, error) {
	ports, err := FreePorts(1)
	if err != nil {
		return nil, err
	}
	at := "127.0.0.1:" + ports[0]
	s := &S3{URL: "http://" + at, KeyID: "nyx-test-key", Secret: "nyx-test-secret", program: program, dir: dir}
	for _, name := range []string{"objects", "versions"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	return s, s.Start()
}

// Start runs the server again after Stop, at the same address, with what it kept.
func (s *S3) Start() (err error) {
	at := strings.TrimPrefix(s.URL, "http://")
	cmd := exec.Command(s.program, "--port", at, "posix", "--versioning-dir", filepath.Join(s.dir, "versions"), filepath.Join(s.dir, "objects"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.KeyID, "ROOT_SECRET_KEY="+s.Secret)
	s.process, err = start("listening", at, cmd)
	return err
}

// Stop ends it.
func (s *S3) Stop() error { return s.process.stop() }

// Bucket opens a bucket with the server's own key, to which all is allowed.
func (s *S3) Bucket(name string) (*s3.Bucket, error) {
	return s3.Open(s3.Config{URL: s.URL, Bucket: name, KeyID: s.KeyID, Secret: func() ([]byte, error) { return []byte(s.Secret), nil }})
}

// Make makes a bucket, with object lock or without.
func (s *S3) Make(ctx context.Context, bucket string, lock bool) error {
	headers := map[string]string{}
	if lock {
		headers["X-Amz-Bucket-Object-Lock-Enabled"] = "true"
	}
	return s.Ask(ctx, http.MethodPut, bucket, "", headers, nil)
}

// Ask makes a request with the server's own key. An answer other than success is an
// error that says what the server said.
func (s *S3) Ask(ctx context.Context, method, path, query string, headers map[string]string, content []byte) error {
	r, err := http.NewRequestWithContext(ctx, method, s.URL+"/"+path+"?"+query, bytes.NewReader(content))
	if err != nil {
		return err
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	s3.Sign(r, content, "us-east-1", s.KeyID, []byte(s.Secret), time.Now())
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, got)
	}
	return err
}
