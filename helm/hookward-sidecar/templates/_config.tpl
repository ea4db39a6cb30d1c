{{/* hookward.yaml: config, and what follows from the other values. */}}
{{- define "hookward-sidecar.config" -}}
{{- include "hookward-sidecar.guards" . -}}
{{- $values := .values -}}
{{- $config := deepCopy (default dict $values.config) -}}

{{- $listener := dict "address" (printf "%s:%d" $values.listen.host (int $values.listen.port)) -}}
{{- if $values.listen.proxyProtocol -}}{{- $_ := set $listener "proxy_protocol" "required" -}}{{- end -}}
{{- if $values.listen.tls.secretName -}}
{{- $tls := dict "cert" "/run/hookward/tls/tls.crt" "key" "/run/hookward/tls/tls.key" -}}
{{- if $values.listen.tls.verifyClients -}}{{- $_ := set $tls "client_ca" "/run/hookward/tls/ca.crt" -}}{{- end -}}
{{- $_ := set $listener "tls" $tls -}}
{{- end -}}
{{- $_ := set $config "listen" (list $listener) -}}

{{- $admin := dict "address" (printf "%s:%d" $values.listen.host (int $values.admin.port)) -}}
{{- if $values.adminTokenKey -}}
{{- $_ := set $admin "token" (dict "file" (printf "/run/hookward/secrets/%s" $values.adminTokenKey)) -}}
{{- end -}}
{{- $_ := set $config "admin" $admin -}}
{{- $_ := set $config "data_dir" "/var/lib/hookward" -}}

{{- $buffer := default dict $config.buffer -}}
{{- if not $buffer.max_bytes -}}
{{- $_ := set $buffer "max_bytes" (printf "%dMiB" (div (include "hookward-sidecar.cap-bytes" . | int64) 1048576)) -}}
{{- end -}}
{{- if not $buffer.require -}}
{{- $_ := set $buffer "require" (ternary "volume" "pod" (eq $values.storage.type "claim")) -}}
{{- end -}}
{{- $_ := set $config "buffer" $buffer -}}

{{- $keys := list -}}
{{- range $values.keys -}}
{{- if .secretKey -}}
{{- $keys = append $keys (dict "name" .name "file" (printf "/run/hookward/secrets/%s" .secretKey)) -}}
{{- else -}}
{{- $keys = append $keys (dict "name" .name "value" .value) -}}
{{- end -}}
{{- end -}}
{{- if $keys -}}
{{- $routes := list -}}
{{- range ($config.routes | default (list dict)) -}}
{{- if and (ne (.mode | default "ack") "pass") (not .keys) -}}
{{- $routes = append $routes (merge (dict "keys" $keys) .) -}}
{{- else -}}
{{- $routes = append $routes . -}}
{{- end -}}
{{- end -}}
{{- $_ := set $config "routes" $routes -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/*
Hash of what only a restart can change, for an annotation of the Pod. The rest hookward reads again by
itself, so a hash of the whole file would restart Pods for nothing.
*/}}
{{- define "hookward-sidecar.restart-checksum" -}}
{{- $config := include "hookward-sidecar.config" . | fromYaml -}}
{{- $log := default dict $config.log -}}
{{- $windows := list -}}
{{- range $config.routes -}}{{- $windows = append $windows .dedupe -}}{{- end -}}
{{- list $config.listen $config.admin $config.data_dir $config.buffer $config.delivery $config.shutdown $config.threads $log.level $log.format $windows | toJson | sha256sum -}}
{{- end -}}

{{- define "hookward-sidecar.configmap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "hookward-sidecar.fullname" . }}
  labels:
    {{- toYaml (.labels | default (dict "app.kubernetes.io/instance" .root.Release.Name)) | nindent 4 }}
data:
  hookward.yaml: |
    {{- include "hookward-sidecar.config" . | nindent 4 }}
{{- end -}}
