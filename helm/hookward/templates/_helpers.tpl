{{- define "hookward.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "hookward.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "hookward.name" .) .Release.Name -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "hookward.name" .) | trunc 52 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "hookward.selector" -}}
app.kubernetes.io/name: {{ include "hookward.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "hookward.labels" -}}
{{ include "hookward.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "hookward.service-account" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "hookward.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{/* What the library takes: this chart's values, with the app beside as the upstream. */}}
{{- define "hookward.sidecar-values" -}}
{{- $values := deepCopy .Values -}}
{{- if eq .Values.mode "sidecar" -}}
{{- $upstream := default dict $values.config.upstream -}}
{{- if not $upstream.url -}}
{{- $_ := set $upstream "url" (printf "http://127.0.0.1:%d" (int .Values.app.port)) -}}
{{- end -}}
{{- $_ := set $values.config "upstream" $upstream -}}
{{- end -}}
{{- $_ := set $values "fullnameOverride" (include "hookward.fullname" .) -}}
{{- $values | toYaml -}}
{{- end -}}

{{/* Whether anything in front of hookward must be trusted before a webhook can be accepted. */}}
{{- define "hookward.trusts-nobody" -}}
{{- if not (default dict .Values.config.client_ip).trusted_proxies -}}true{{- end -}}
{{- end -}}

{{/* Pods with volumes of their own are a StatefulSet's, others a Deployment's. */}}
{{- define "hookward.kind" -}}
{{- if and (eq .Values.storage.type "claim") (not .Values.storage.existingClaim) -}}StatefulSet{{- else -}}Deployment{{- end -}}
{{- end -}}
