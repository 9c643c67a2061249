package dashboards

import (
	"path/filepath"
	"strings"
)

// Instructions is what to tell a person who has the files that Write and
// WriteDataSource put into dir, but no Grafana: how to get one that shows
// them. HubURL is where that Grafana finds the hub.
func Instructions(dir, hubURL string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	return strings.NewReplacer("DIR", dir, "HUB", trimSlash(hubURL)).Replace(`No Grafana was given, so the boards were written as files:

  DIR/boards         one JSON file per board
  DIR/provisioning   data source (HUB) and board provider for Grafana

A Grafana that reads them, in one of these ways:

  Container (Linux; sees the hub on the host's loopback)
    docker run --rm --network host -v 'DIR:DIR:ro' \
      -e GF_PATHS_PROVISIONING='DIR/provisioning' \
      -e GF_AUTH_ANONYMOUS_ENABLED=true -e GF_SERVER_HTTP_ADDR=127.0.0.1 \
      grafana/grafana
    podman takes the same arguments.

  Debian, Ubuntu (Grafana's own repository; Debian has no package)
    sudo apt-get install -y apt-transport-https wget gpg
    sudo install -d -m 0755 /etc/apt/keyrings
    wget -qO- https://apt.grafana.com/gpg.key | sudo gpg --dearmor -o /etc/apt/keyrings/grafana.gpg
    echo 'deb [signed-by=/etc/apt/keyrings/grafana.gpg] https://apt.grafana.com stable main' | sudo tee /etc/apt/sources.list.d/grafana.list
    sudo apt-get update && sudo apt-get install -y grafana
    sudo cp -r 'DIR/provisioning/.' /etc/grafana/provisioning/
    sudo systemctl enable --now grafana-server
    The user grafana must be able to read DIR/boards.

  macOS, Linux with Homebrew
    brew install grafana
    GF_PATHS_PROVISIONING='DIR/provisioning' "$(brew --prefix)/bin/grafana" server \
      --homepath "$(brew --prefix)/opt/grafana/share/grafana" cfg:paths.data="$HOME/.local/share/grafana"

Then open http://localhost:3000/d/` + meshBoardUID + ` (user admin, password admin).

Or push to a Grafana that runs already: give this command Grafana's URL and
the token of a service account with the role Admin (in Grafana:
Administration > Users and access > Service accounts).
`)
}
