{{/* Labels of every object. part-of is what `meshctl uninstall` finds them by. */}}
{{- define "rhizome.labels" -}}
app.kubernetes.io/name: rhizome
app.kubernetes.io/part-of: rhizome
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Labels of the agent's pods; never change, or an upgrade is refused. */}}
{{- define "rhizome.selector" -}}
{{ include "rhizome.selectorOf" "gateway" }}
{{- end }}

{{/* The same for the agents of a role, "gateway" or "node". Services select gateways only. */}}
{{- define "rhizome.selectorOf" -}}
app.kubernetes.io/name: rhizome
app.kubernetes.io/component: {{ eq . "node" | ternary "node" "agent" }}
{{- end }}

{{- define "rhizome.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "rhizome.hostAddress" -}}
{{- if eq .Values.ipFamily "IPv6" }}[$(HOST_IP)]{{ else }}$(HOST_IP){{ end -}}
{{- end }}

{{- define "rhizome.tokenSecret" -}}
{{ .Values.token.existingSecret | default "rhizome-token" }}
{{- end }}

{{/* What the chart says to the agent by its environment. A key of .Values.settings wins: the agent would read the environment over its file. */}}
{{- define "rhizome.settingsEnv" -}}
{{- $listen := printf "/ip4/0.0.0.0/tcp/%v,/ip6/::/tcp/%v" .Values.ports.control .Values.ports.control -}}
{{- $host := include "rhizome.hostAddress" . -}}
{{- $webhook := "off" -}}
{{- if .Values.webhook.enabled }}{{ $webhook = printf "%s:%v" $host .Values.ports.webhook }}{{ end -}}
{{- $http := printf "127.0.0.1:%v" .Values.ports.http -}}
{{- if .Values.metrics.serviceMonitor.enabled }}{{ $http = printf "%s:%v" $host .Values.ports.http }}{{ end -}}
{{- $rows := list
  (list "listen" $listen)
  (list "wireguard-port" .Values.ports.wireguard)
  (list "probe-port" .Values.ports.probe)
  (list "dns-listen" (printf "%s:%v" $host .Values.ports.dns))
  (list "http-listen" $http)
  (list "token-file" "/etc/rhizome/token/token")
  (list "sysctl-root" "/host/proc/sys")
  (list "cluster-dns" .Values.clusterDns.target)
  (list "cluster-dns-namespace" .Values.clusterDns.namespace)
  (list "webhook-listen" $webhook)
  (list "mcs" (ternary (ternary "on" "imports" .Values.mcs.endpointSlices) "off" .Values.mcs.enabled))
-}}
{{- with .Values.mesh.init }}
{{- if and .cluster (or $.Values.token.value $.Values.token.existingSecret) }}{{ fail "mesh.init.cluster founds a mesh, and token joins one: leave one of the two out" }}{{ end }}
{{- if .cluster }}{{ $rows = concat $rows (list (list "init" .cluster) (list "init-pod-cidrs" (join "," .podCIDRs)) (list "init-service-cidrs" (join "," .serviceCIDRs))) }}{{ end }}
{{- end }}
{{- $settings := .Values.settings -}}
{{- range $row := $rows }}
{{- if not (hasKey $settings (index $row 0)) }}
- name: RHIZOME_{{ index $row 0 | upper | replace "-" "_" }}
  value: {{ index $row 1 | toString | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* The port of a setting that says where the agent listens, where the settings have it; else the port of the chart. "own": what the agent takes for an address without a port. */}}
{{- define "rhizome.portOf" -}}
{{- $given := index .settings .key -}}
{{- if kindIs "slice" $given }}{{ $given = first $given }}{{ end -}}
{{- $text := toString $given | splitList "," | first | trim -}}
{{- if or (not (hasKey .settings .key)) (has $text (list "off" "false" "auto" "")) -}}
{{ .chart }}
{{- else -}}
{{ regexFind "(^\\[[^]]*\\]:|^[^:[]*:|/tcp/|^)[0-9]+$" $text | regexFind "[0-9]+$" | default (toString .own) }}
{{- end -}}
{{- end }}

{{- define "rhizome.controlPort" -}}
{{ include "rhizome.portOf" (dict "settings" .Values.settings "key" "listen" "chart" .Values.ports.control "own" 7946) }}
{{- end }}

{{- define "rhizome.wireguardPort" -}}
{{ include "rhizome.portOf" (dict "settings" .Values.settings "key" "wireguard-port" "chart" .Values.ports.wireguard "own" 51820) }}
{{- end }}

{{- define "rhizome.dnsPort" -}}
{{ include "rhizome.portOf" (dict "settings" .Values.settings "key" "dns-listen" "chart" .Values.ports.dns "own" 53) }}
{{- end }}

{{- define "rhizome.webhookPort" -}}
{{ include "rhizome.portOf" (dict "settings" .Values.settings "key" "webhook-listen" "chart" .Values.ports.webhook "own" 7950) }}
{{- end }}

{{/* Where the agent answers /healthz and /readyz: an address and a port, or "off". YAML reads a bare off as false. */}}
{{- define "rhizome.httpListen" -}}
{{- if hasKey .Values.settings "http-listen" -}}
{{ index .Values.settings "http-listen" | toString | replace "false" "off" }}
{{- else if .Values.metrics.serviceMonitor.enabled -}}
{{ include "rhizome.hostAddress" . }}:{{ .Values.ports.http }}
{{- else -}}
127.0.0.1:{{ .Values.ports.http }}
{{- end -}}
{{- end }}

{{- define "rhizome.httpPort" -}}
{{- if ne (include "rhizome.httpListen" .) "off" -}}
{{ include "rhizome.portOf" (dict "settings" .Values.settings "key" "http-listen" "chart" .Values.ports.http "own" 9465) }}
{{- end -}}
{{- end }}

{{/* The host of a probe: the address that the agent listens on. Where it listens on all of them, or on that of the node, the kubelet asks the pod, which has the node's. */}}
{{- define "rhizome.httpHost" -}}
{{- $host := regexReplaceAll "^(\\[[^]]*\\]|[^:[]*):[0-9]+$" (include "rhizome.httpListen" .) "${1}" | trimAll "[]" -}}
{{- if eq $host "localhost" }}{{ $host = "127.0.0.1" }}{{ end -}}
{{- if not (or (regexMatch "^[0:.]*$" $host) (hasPrefix "$" $host)) }}host: {{ if contains ":" $host }}{{ quote $host }}{{ else }}{{ $host }}{{ end }}, {{ end -}}
{{- end }}
