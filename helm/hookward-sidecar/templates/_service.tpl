{{/*
For the ports of a Service that selects the Pods. By number: before Kubernetes 1.33 the name of a native
sidecar's port finds no endpoint (kubernetes/kubernetes#127958, #128850).
*/}}
{{- define "hookward-sidecar.service-port" -}}
- name: webhooks
  port: {{ .port | default .values.listen.port }}
  targetPort: {{ .values.listen.port }}
  protocol: TCP
  appProtocol: {{ ternary "https" "http" (not (empty .values.listen.tls.secretName)) }}
{{- end -}}

{{/*
A Service of its own for the webhooks; takes "selector" besides. A Pod is ready only when all its
containers are, so without publishNotReadyAddresses an app that is not ready would take the intake
down with it, which is what hookward is there to prevent.
*/}}
{{- define "hookward-sidecar.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "hookward-sidecar.fullname" . }}
  labels:
    {{- toYaml (.labels | default .selector) | nindent 4 }}
spec:
  type: ClusterIP
  publishNotReadyAddresses: true
  selector:
    {{- toYaml .selector | nindent 4 }}
  ports:
    {{- include "hookward-sidecar.service-port" . | nindent 4 }}
{{- end -}}
