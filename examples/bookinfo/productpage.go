package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
)

const (
	detailsUnavailable = "Sorry, product details are currently unavailable for this book."
	reviewsUnavailable = "Sorry, product reviews are currently unavailable for this book."
	productRatingsGone = "Sorry, product ratings are currently unavailable for this book."
)

//go:embed productpage.html
var pageSource string

// Product is one book of the shop.
type Product struct {
	ID              int    `json:"id"`
	Title           string `json:"title"`
	DescriptionHTML string `json:"descriptionHtml"`
}

func products() []Product {
	return []Product{{
		ID:    0,
		Title: "The Comedy of Errors",
		DescriptionHTML: `<a href="https://en.wikipedia.org/wiki/The_Comedy_of_Errors">Wikipedia Summary</a>: ` +
			`The Comedy of Errors is one of <b>William Shakespeare's</b> early plays. It is his shortest and one of ` +
			`his most farcical comedies, with a major part of the humour coming from slapstick and mistaken identity, ` +
			`in addition to puns and word play.`,
	}}
}

type productpage struct {
	cfg    Config
	caller *caller
	page   *template.Template
}

func (s *productpage) register(mux *http.ServeMux) {
	s.page = template.Must(template.New("page").Funcs(template.FuncMap{"stars": stars}).Parse(pageSource))
	mux.HandleFunc("GET "+pathHealth, func(w http.ResponseWriter, _ *http.Request) {
		writeBody(w, http.StatusOK, "text/plain; charset=utf-8", []byte("Product page is healthy"))
	})
	mux.HandleFunc("GET /{$}", s.index)
	mux.HandleFunc("GET /productpage", s.front)
	mux.HandleFunc("GET /api/v1/products", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, products())
	})
	mux.HandleFunc("GET /api/v1/products/{id}", s.relay(serviceDetails, s.cfg.DetailsHost, detailsUnavailable))
	mux.HandleFunc("GET /api/v1/products/{id}/reviews", s.relay(serviceReviews, s.cfg.ReviewsHost, reviewsUnavailable))
	mux.HandleFunc("GET /api/v1/products/{id}/ratings", s.relay(serviceRatings, s.cfg.RatingsHost, productRatingsGone))
}

// relay answers with what another service says of a product. As in the
// original, its status is passed on, with an apology unless it is 200, and no
// answer at all is a 500.
func (s *productpage) relay(service, host, apology string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, ok := productID(w, r)
		if !ok {
			return
		}
		ans, err := s.ask(r, service, host, id)
		switch {
		case err != nil:
			writeError(w, http.StatusInternalServerError, apology)
		case ans.status != http.StatusOK:
			writeError(w, ans.status, apology)
		default:
			writeBody(w, http.StatusOK, "application/json", ans.body)
		}
	}
}

// view is what the page shows. A nil part is shown as its error.
type view struct {
	Product     *Product
	Description template.HTML
	Details     *Details
	Reviews     *Reviews
	// Why a part is missing, such as "status 503" or "no answer".
	DetailsError, ReviewsError string
	DetailsSorry, ReviewsSorry string
	RequestID, PodName         string
}

func (s *productpage) newView(r *http.Request) view {
	return view{
		RequestID: r.Header.Get("x-request-id"), PodName: s.cfg.PodName,
		DetailsSorry: detailsUnavailable, ReviewsSorry: reviewsUnavailable,
	}
}

func (s *productpage) index(w http.ResponseWriter, r *http.Request) {
	s.render(w, s.newView(r))
}

// front is the page that people know. It is whole, and 200, whichever of the
// services behind it fails.
func (s *productpage) front(w http.ResponseWriter, r *http.Request) {
	v := s.newView(r)
	v.Product = &products()[0]
	v.Description = template.HTML(v.Product.DescriptionHTML) // our own constant
	var d Details
	if v.DetailsError = s.fetch(r, serviceDetails, s.cfg.DetailsHost, v.Product.ID, &d); v.DetailsError == "" {
		v.Details = &d
	}
	var rv Reviews
	if v.ReviewsError = s.fetch(r, serviceReviews, s.cfg.ReviewsHost, v.Product.ID, &rv); v.ReviewsError == "" {
		v.Reviews = &rv
	}
	s.render(w, v)
}

// fetch decodes a service's word on a product into v, or says in few words
// why it could not.
func (s *productpage) fetch(r *http.Request, service, host string, id int, v any) string {
	ans, err := s.ask(r, service, host, id)
	if err != nil {
		return "no answer from " + service
	}
	if err := ans.into(v); err != nil {
		return fmt.Sprintf("%s: %v", service, err)
	}
	return ""
}

// ask asks another service for a product, details over gRPC if so configured.
func (s *productpage) ask(r *http.Request, service, host string, id int) (answer, error) {
	if service == serviceDetails && s.caller.details != nil {
		return s.caller.rpcDetails(r, id)
	}
	return s.caller.get(r, service, host, "/"+service+"/"+strconv.Itoa(id))
}

func (s *productpage) render(w http.ResponseWriter, v view) {
	var buf bytes.Buffer
	if err := s.page.Execute(&buf, v); err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	writeBody(w, http.StatusOK, "text/html; charset=utf-8", buf.Bytes())
}

// stars says for each of five stars whether it is filled.
func stars(n int) [5]bool {
	var s [5]bool
	for i := range s {
		s[i] = i < n
	}
	return s
}
