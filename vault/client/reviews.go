package client

import (
	"context"
	"io"
	"iter"
	"net/http"
	"net/url"

	"dsvault/vault/audit"
	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

const reviewsPath = "/v1/reviews"

func reviewPath(id dataset.ReviewID) string { return reviewsPath + "/" + id.String() }

// StartReview begins an access review.
func (c *Client) StartReview(ctx context.Context, req wire.NewReview) (out wire.AccessReview, err error) {
	err = c.post(ctx, "client.StartReview", reviewsPath, req, &out)
	return out, err
}

// Reviews walks through the access reviews at and below a scope, the newest
// first.
func (c *Client) Reviews(ctx context.Context, scope dataset.Scope) iter.Seq2[wire.AccessReview, error] {
	return pages[wire.AccessReview](ctx, c, "client.Reviews", reviewsPath, url.Values{"scope": {scope.String()}})
}

// Review tells how an access review stands.
func (c *Client) Review(ctx context.Context, id dataset.ReviewID) (out wire.AccessReview, err error) {
	err = c.get(ctx, "client.Review", reviewPath(id), nil, &out)
	return out, err
}

// ReviewItems walks through the items of an access review.
func (c *Client) ReviewItems(ctx context.Context, id dataset.ReviewID) iter.Seq2[wire.ReviewItem, error] {
	return pages[wire.ReviewItem](ctx, c, "client.ReviewItems", reviewPath(id)+"/items", nil)
}

// DecideItems keeps or revokes the access of items.
func (c *Client) DecideItems(ctx context.Context, id dataset.ReviewID, req wire.DecideItems) (out wire.AccessReview, err error) {
	err = c.post(ctx, "client.DecideItems", reviewPath(id)+"/items", req, &out)
	return out, err
}

// FinishReview ends an access review of which every item is decided.
func (c *Client) FinishReview(ctx context.Context, id dataset.ReviewID) (out wire.AccessReview, err error) {
	err = c.call(ctx, request{op: "client.FinishReview", method: http.MethodPost, path: reviewPath(id) + "/finish"}, &out)
	return out, err
}

// ReviewResult writes the result of a review that has ended to w and gives what
// the log signed of it, checked as ListLog checks. If it fails, w has part of a
// file.
func (c *Client) ReviewResult(ctx context.Context, id dataset.ReviewID, pin LogPin, w io.Writer) ([]byte, audit.Listing, error) {
	return c.signedFile(ctx, request{op: "client.ReviewResult", method: http.MethodGet, path: reviewPath(id) + "/result"},
		"review="+id.String(), wire.ReviewFormat, pin, w)
}
