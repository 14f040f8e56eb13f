package api

import (
	"encoding/base64"
	"net/http"

	"dsvault/vault/dataset"
	"dsvault/vault/wire"
)

// reviewRoutes are access reviews.
func (s *server) reviewRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	return []route{
		{method: post, path: "/v1/reviews", do: take(s.vault.StartReview), body: jsonBody},
		{method: get, path: "/v1/reviews", do: s.listReviews, query: []string{"scope", "after", "limit"}},
		{method: get, path: "/v1/reviews/:id", do: s.review},
		{method: get, path: "/v1/reviews/:id/items", do: s.reviewItems, query: []string{"after", "limit"}},
		{method: post, path: "/v1/reviews/:id/items", do: s.decideItems, body: jsonBody},
		{method: post, path: "/v1/reviews/:id/finish", do: s.finishReview},
		{method: get, path: "/v1/reviews/:id/result", do: s.reviewResult},
	}
}

func (p *params) reviewID() dataset.ReviewID {
	id, err := dataset.ParseID[dataset.ReviewID](p.Param("id"))
	return parsed(p, id, err)
}

func (s *server) listReviews(c *call) (any, error) {
	p := params{call: c}
	scope, after, limit := p.scope("scope"), p.text("after"), p.limit()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Reviews(c.ctx(), c.caller, scope, after, limit)
}

func (s *server) review(c *call) (any, error) {
	p := params{call: c}
	id := p.reviewID()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.Review(c.ctx(), c.caller, id)
}

func (s *server) reviewItems(c *call) (any, error) {
	p := params{call: c}
	id, after, limit := p.reviewID(), p.integer("after", -1, wire.MaxReviewItems), p.limit()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.ReviewItems(c.ctx(), c.caller, id, int(after), limit)
}

func (s *server) decideItems(c *call) (any, error) {
	p := params{call: c}
	id, in := p.reviewID(), body[wire.DecideItems](&p)
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.DecideItems(c.ctx(), c.caller, id, in)
}

func (s *server) finishReview(c *call) (any, error) {
	p := params{call: c}
	id := p.reviewID()
	if p.err != nil {
		return nil, p.err
	}
	return s.vault.FinishReview(c.ctx(), c.caller, id)
}

// reviewResult sends the result of a review; the signed note comes behind it, as
// a trailer.
func (s *server) reviewResult(c *call) (any, error) {
	p := params{call: c}
	id := p.reviewID()
	if p.err != nil {
		return nil, p.err
	}
	release, err := s.slots.take(c.caller.Principal)
	if err != nil {
		return nil, err
	}
	defer release()
	result, err := s.vault.ReviewResult(c.ctx(), c.caller, id)
	if err != nil {
		return nil, err
	}
	h := c.Response().Header()
	h.Set("Content-Type", "application/jsonl")
	h.Set("Content-Disposition", `attachment; filename="review.jsonl"`)
	h.Set("Trailer", wire.HeaderListing)
	note, err := result.Send(c.ctx(), c.Response())
	if err != nil {
		return nil, err
	}
	h.Set(wire.HeaderListing, base64.StdEncoding.EncodeToString(note))
	return nil, nil
}
