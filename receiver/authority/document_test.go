package authority_test

import (
	"net/http"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cis490/internal/apidoc"
	"cis490/internal/pki"
	"cis490/internal/wire"
)

// document is docs/openapi.yaml, which documented compares answers with.
var document = sync.OnceValues(func() (*apidoc.Doc, error) { return apidoc.Open("../../docs/openapi.yaml") })

func documented(t testing.TB, res *http.Response) {
	t.Helper()
	d, err := document()
	if err == nil {
		err = d.Check(res.Request, res)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestOpenAPI: the document has exactly the authority's routes and describes its answers.
// The tests of certificate requests compare theirs.
func TestOpenAPI(t *testing.T) {
	s := newHarness(t)
	d, err := document()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d.Operations("authority"), s.auth.Routes()); diff != "" {
		t.Errorf("docs/openapi.yaml (-) and the authority (+) differ:\n%s", diff)
	}
	cl := &http.Client{Transport: &http.Transport{TLSClientConfig: pki.ClientTLS(s.roots(), nil), DisableKeepAlives: true}}
	for _, path := range []string{wire.CAPath, wire.AuthorityHealthPath} {
		res, err := cl.Get("https://" + s.auth.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		documented(t, res)
		if err := res.Body.Close(); err != nil {
			t.Error(err)
		}
	}
}
