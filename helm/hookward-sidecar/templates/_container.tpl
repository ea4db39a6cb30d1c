{{/* The container alone; hookward-sidecar.init-containers and .containers put it in its place. */}}
{{- define "hookward-sidecar.container" -}}
{{- $values := .values -}}
- name: hookward
  image: {{ include "hookward-sidecar.image" . | quote }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  {{- if .native }}
  restartPolicy: Always
  {{- end }}
  args: [run, --config, /etc/hookward/hookward.yaml]
  {{- with $values.extraEnv }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - name: webhooks
      containerPort: {{ $values.listen.port }}
      protocol: TCP
    - name: hookward-admin
      containerPort: {{ $values.admin.port }}
      protocol: TCP
  # None of them asks the app: an app that is down must not take the intake down.
  startupProbe:
    httpGet: { path: /livez, port: hookward-admin }
    periodSeconds: 1
    failureThreshold: 60
  livenessProbe:
    httpGet: { path: /livez, port: hookward-admin }
    periodSeconds: 10
    timeoutSeconds: 5
  readinessProbe:
    httpGet: { path: /readyz, port: hookward-admin }
    periodSeconds: 5
    timeoutSeconds: 5
  lifecycle:
    preStop:
      exec:
        command: [hookward, drain, --wait, --timeout, {{ include "hookward-sidecar.drain-seconds" . }}s]
  resources:
    {{- include "hookward-sidecar.resources" . | nindent 4 }}
  securityContext:
    {{- toYaml $values.securityContext | nindent 4 }}
  volumeMounts:
    # Directories, not subPath: only so does a change arrive, and hookward read it again.
    - { name: hookward-config, mountPath: /etc/hookward, readOnly: true }
    - { name: hookward-data, mountPath: /var/lib/hookward }
    {{- if $values.existingSecret }}
    - { name: hookward-secrets, mountPath: /run/hookward/secrets, readOnly: true }
    {{- end }}
    {{- if $values.listen.tls.secretName }}
    - { name: hookward-tls, mountPath: /run/hookward/tls, readOnly: true }
    {{- end }}
    {{- with $values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* An emptyDir counts as the Pod's ephemeral storage: ask for its size, and leave room for logs. */}}
{{- define "hookward-sidecar.resources" -}}
{{- $resources := deepCopy (default dict .values.resources) -}}
{{- if eq .values.storage.type "ephemeral" -}}
{{- $mebibytes := div (include "hookward-sidecar.bytes" .values.storage.size | int64) 1048576 -}}
{{- $ours := dict "requests" (dict "ephemeral-storage" (printf "%dMi" $mebibytes)) "limits" (dict "ephemeral-storage" (printf "%dMi" (add $mebibytes 64))) -}}
{{- $resources = merge $resources $ours -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* For initContainers: the native sidecar, or nothing. Place it first. */}}
{{- define "hookward-sidecar.init-containers" -}}
{{- if include "hookward-sidecar.is-native" . -}}
{{- include "hookward-sidecar.container" (merge (dict "native" true) .) -}}
{{- end -}}
{{- end -}}

{{/* For containers: hookward where it is no native sidecar, or nothing. */}}
{{- define "hookward-sidecar.containers" -}}
{{- if not (include "hookward-sidecar.is-native" .) -}}
{{- include "hookward-sidecar.container" . -}}
{{- end -}}
{{- end -}}

{{- define "hookward-sidecar.volumes" -}}
{{- $values := .values -}}
- name: hookward-config
  configMap:
    name: {{ include "hookward-sidecar.fullname" . }}
{{- if eq $values.storage.type "ephemeral" }}
- name: hookward-data
  emptyDir:
    sizeLimit: {{ $values.storage.size }}
{{- else if $values.storage.existingClaim }}
- name: hookward-data
  persistentVolumeClaim:
    claimName: {{ $values.storage.existingClaim }}
{{- end }}
{{- with $values.existingSecret }}
- name: hookward-secrets
  secret:
    secretName: {{ . }}
{{- end }}
{{- with $values.listen.tls.secretName }}
- name: hookward-tls
  secret:
    secretName: {{ . }}
{{- end }}
{{- end -}}

{{/* Annotations of the Pod: it is replaced when something changes that only a restart can change. */}}
{{- define "hookward-sidecar.annotations" -}}
hookward/restart-checksum: {{ include "hookward-sidecar.restart-checksum" . }}
{{- end -}}

{{/*
For the app's container: it must still take deliveries while hookward drains, so it ends no earlier.
Kubernetes below 1.30 has no sleep action: give the app a preStop of its own there.
*/}}
{{- define "hookward-sidecar.app-lifecycle" -}}
{{- if semverCompare ">=1.30-0" .root.Capabilities.KubeVersion.Version -}}
preStop:
  sleep:
    seconds: {{ include "hookward-sidecar.drain-seconds" . }}
{{- end -}}
{{- end -}}
