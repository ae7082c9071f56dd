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
app.kubernetes.io/name: rhizome
app.kubernetes.io/component: agent
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
{{- $listen := printf "/ip4/0.0.0.0/tcp/%v" .Values.ports.control -}}
{{- if eq .Values.ipFamily "IPv6" }}{{ $listen = printf "/ip6/::/tcp/%v" .Values.ports.control }}{{ end -}}
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
-}}
{{- $settings := .Values.settings -}}
{{- range $row := $rows }}
{{- if not (hasKey $settings (index $row 0)) }}
- name: RHIZOME_{{ index $row 0 | upper | replace "-" "_" }}
  value: {{ index $row 1 | toString | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where the agent answers /healthz and /readyz: "address:port", or "off". */}}
{{- define "rhizome.httpListen" -}}
{{- if hasKey .Values.settings "http-listen" -}}
{{ index .Values.settings "http-listen" }}
{{- else if .Values.metrics.serviceMonitor.enabled -}}
{{ include "rhizome.hostAddress" . }}:{{ .Values.ports.http }}
{{- else -}}
127.0.0.1:{{ .Values.ports.http }}
{{- end -}}
{{- end }}

{{- define "rhizome.httpPort" -}}
{{- $listen := include "rhizome.httpListen" . -}}
{{- if ne $listen "off" }}{{ regexFind "[0-9]+$" $listen }}{{ end -}}
{{- end }}

{{/* The host of a probe: loopback where the agent listens there only, else the address of the node, which is that of the pod. */}}
{{- define "rhizome.httpHost" -}}
{{- $listen := include "rhizome.httpListen" . -}}
{{- if hasPrefix "127." $listen }}host: 127.0.0.1, {{ else if hasPrefix "[::1]" $listen }}host: "::1", {{ end -}}
{{- end }}
