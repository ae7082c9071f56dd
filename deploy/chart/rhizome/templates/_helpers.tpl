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
