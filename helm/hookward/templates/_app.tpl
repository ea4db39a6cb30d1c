{{/* The app of mode sidecar. */}}
{{- define "hookward.app" -}}
{{- $sidecar := dict "root" . "values" (include "hookward.sidecar-values" . | fromYaml) -}}
{{- $app := .Values.app -}}
- name: app
  image: {{ $app.image | quote }}
  {{- with $app.command }}
  command:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $app.args }}
  args:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $app.env }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $app.envFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - name: app
      containerPort: {{ $app.port }}
      protocol: TCP
  {{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" }}
  {{- with index $app $probe }}
  {{ $probe }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with include "hookward-sidecar.app-lifecycle" $sidecar }}
  # It takes deliveries until hookward has drained.
  lifecycle:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with $app.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml $app.securityContext | nindent 4 }}
  {{- with $app.volumeMounts }}
  volumeMounts:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
