package objects

import (
	"context"
	"io"
	"net/http"

	"github.com/minio/minio-go/v7"
)

// calls are the requests that a Bucket sends. They are functions, because a client in a
// field would make the linker keep all of its methods, a megabyte that nobody calls.
type calls struct {
	put func(ctx context.Context, bucket, key string, body io.Reader, size int64, md5, sha256 string, o minio.PutObjectOptions) (
		minio.UploadInfo, error)
	begin   func(ctx context.Context, bucket, key string, o minio.PutObjectOptions) (id string, err error)
	putPart func(ctx context.Context, bucket, key, id string, number int, body io.Reader, size int64, o minio.PutObjectPartOptions) (
		minio.ObjectPart, error)
	complete func(ctx context.Context, bucket, key, id string, parts []minio.CompletePart, o minio.PutObjectOptions) (
		minio.UploadInfo, error)
	abort      func(ctx context.Context, bucket, key, id string) error
	unfinished func(ctx context.Context, bucket, prefix string, recursive bool) <-chan minio.ObjectMultipartInfo
	stat       func(ctx context.Context, bucket, key string, o minio.StatObjectOptions) (minio.ObjectInfo, error)
	get        func(ctx context.Context, bucket, key string, o minio.GetObjectOptions) (io.ReadCloser, minio.ObjectInfo, http.Header, error)
	list       func(bucket, prefix, start, token, delimiter string, most int) (minio.ListBucketV2Result, error)
	remove     func(ctx context.Context, bucket, key string, o minio.RemoveObjectOptions) error // nil: nothing can be deleted
}

func callsOf(c minio.Core) calls {
	return calls{
		put: c.PutObject, begin: c.NewMultipartUpload, putPart: c.PutObjectPart, complete: c.CompleteMultipartUpload,
		abort: c.AbortMultipartUpload, unfinished: c.ListIncompleteUploads, stat: c.StatObject, get: c.GetObject, list: c.ListObjectsV2,
	}
}
