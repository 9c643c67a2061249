package main

import (
	"net/http"
	"strconv"
)

// ratingsUnavailable is the text of the original, which clients may test for.
const ratingsUnavailable = "Ratings service is currently unavailable"

// Reviews is the answer of the reviews service.
type Reviews struct {
	ID          string   `json:"id"`
	PodName     string   `json:"podname"`
	ClusterName string   `json:"clustername"`
	Version     string   `json:"version"` // not in the original
	Reviews     []Review `json:"reviews"`
}

// Review is one reader's word. Rating is nil in v1.
type Review struct {
	Reviewer string        `json:"reviewer"`
	Text     string        `json:"text"`
	Rating   *ReviewRating `json:"rating,omitempty"`
}

// ReviewRating has either stars, 1 to 5, and a colour, or an error.
type ReviewRating struct {
	Stars int    `json:"stars,omitempty"`
	Color string `json:"color,omitempty"`
	Error string `json:"error,omitempty"`
}

type reviews struct {
	cfg    Config
	caller *caller
}

func (s *reviews) register(mux *http.ServeMux) {
	mux.HandleFunc("GET "+pathHealth, healthHandler("Reviews is healthy"))
	mux.HandleFunc("GET /reviews/{id}", s.get)
}

func (s *reviews) get(w http.ResponseWriter, r *http.Request) {
	id, ok := productID(w, r)
	if !ok {
		return
	}
	list := []Review{
		{Reviewer: "Reviewer1", Text: "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"},
		{Reviewer: "Reviewer2", Text: "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare."},
	}
	if color := starColor(s.cfg.Version); color != "" {
		s.rate(r, id, color, list)
	}
	writeJSON(w, http.StatusOK, Reviews{
		ID: strconv.Itoa(id), PodName: s.cfg.PodName, ClusterName: "null", Version: s.cfg.Version, Reviews: list,
	})
}

// starColor is empty for the version that shows no stars.
func starColor(version string) string {
	switch version {
	case "v2":
		return "black"
	case "v3":
		return "red"
	}
	return ""
}

// rate fills in the stars of list. A failing ratings service costs the stars,
// not the reviews.
func (s *reviews) rate(r *http.Request, id int, color string, list []Review) {
	var got Ratings
	ans, err := s.ask(r, id)
	if err == nil {
		err = ans.into(&got)
	}
	for i := range list {
		stars, rated := got.Ratings[list[i].Reviewer]
		if err != nil || !rated {
			list[i].Rating = &ReviewRating{Error: ratingsUnavailable}
			continue
		}
		list[i].Rating = &ReviewRating{Stars: stars, Color: color}
	}
}

// ask asks ratings for a product, in its own protocol if so configured.
func (s *reviews) ask(r *http.Request, id int) (answer, error) {
	if s.cfg.RatingsTCP != "" {
		return s.caller.line(r, s.cfg.RatingsTCP, id)
	}
	return s.caller.get(r, serviceRatings, s.cfg.RatingsHost, "/ratings/"+strconv.Itoa(id))
}
