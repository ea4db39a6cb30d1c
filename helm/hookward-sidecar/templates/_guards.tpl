{{/* Combinations that would lose webhooks or never start: better no release than such a one. */}}
{{- define "hookward-sidecar.guards" -}}
{{- $values := .values -}}
{{- $config := default dict $values.config -}}
{{- if eq $values.storage.type "shared" -}}
{{- fail "storage.type: a buffer that replicas share (PostgreSQL) is not in this version; write claim, or ephemeral" -}}
{{- end -}}
{{- $size := include "hookward-sidecar.bytes" $values.storage.size | int64 -}}
{{- if lt $size 134217728 -}}
{{- fail (printf "storage.size: %s is too small for a buffer; write 128Mi or more" $values.storage.size) -}}
{{- end -}}
{{- $buffer := default dict $config.buffer -}}
{{- if eq (toString $buffer.max_bytes) "auto" -}}
{{- if ne $values.storage.type "claim" -}}
{{- fail "config.buffer.max_bytes: auto is 80 % of the node's disk where storage is an emptyDir, and one that outgrows its limit gets its Pod evicted; leave it out, which is 80 % of storage.size" -}}
{{- end -}}
{{- else if $buffer.max_bytes -}}
{{- if gt (include "hookward-sidecar.bytes" $buffer.max_bytes | int64) (include "hookward-sidecar.cap-bytes" . | int64) -}}
{{- fail (printf "config.buffer.max_bytes: %v is more than 80 %% of storage.size (%s): an emptyDir that outgrows its limit gets its Pod evicted, a full claim fails writes; lower it, or raise storage.size" $buffer.max_bytes $values.storage.size) -}}
{{- end -}}
{{- end -}}
{{- if and $values.storage.existingClaim (ne $values.storage.type "claim") -}}
{{- fail "storage.existingClaim: is used with storage.type claim only" -}}
{{- end -}}
{{- $hasEnvironmentKey := false -}}
{{- range $values.extraEnv -}}{{- if eq .name "TELNYX_PUBLIC_KEY" -}}{{- $hasEnvironmentKey = true -}}{{- end -}}{{- end -}}
{{- if not (or $values.keys $hasEnvironmentKey) -}}
{{- $lacksKeys := empty $config.routes -}}
{{- range $config.routes -}}
{{- if and (ne (.mode | default "ack") "pass") (not .keys) -}}{{- $lacksKeys = true -}}{{- end -}}
{{- end -}}
{{- if $lacksKeys -}}
{{- fail "keys: hookward does not start without Telnyx's public key (portal: Keys & Credentials > Public Key); write keys: [{name: current, value: \"…\"}], or secretKey with existingSecret" -}}
{{- end -}}
{{- end -}}
{{- range $values.keys -}}
{{- if and .secretKey (not $values.existingSecret) -}}
{{- fail (printf "keys: %s is to come from the Secret's key %s, but existingSecret names no Secret" .name .secretKey) -}}
{{- end -}}
{{- end -}}
{{- if and $values.adminTokenKey (not $values.existingSecret) -}}
{{- fail "adminTokenKey: is a key of existingSecret, which names no Secret" -}}
{{- end -}}
{{- if and $values.listen.tls.verifyClients (not $values.listen.tls.secretName) -}}
{{- fail "listen.tls.verifyClients: needs listen.tls.secretName, a Secret with ca.crt" -}}
{{- end -}}
{{- if eq (int $values.listen.port) (int $values.admin.port) -}}
{{- fail "listen.port and admin.port must differ" -}}
{{- end -}}
{{- if and $values.listen.proxyProtocol (not (default dict $config.client_ip).trusted_proxies) -}}
{{- fail "listen.proxyProtocol: needs config.client_ip.trusted_proxies, the addresses of the load balancer" -}}
{{- end -}}
{{- $lacksUpstream := empty $config.routes -}}
{{- range $config.routes -}}
{{- if and (ne (.mode | default "ack") "verify") (not (default dict .upstream).url) -}}{{- $lacksUpstream = true -}}{{- end -}}
{{- end -}}
{{- if and (or $lacksUpstream (eq ($config.unmatched | default "reject") "pass")) (not (default dict $config.upstream).url) -}}
{{- fail "config.upstream.url: where is the app? Write such as http://my-app:3000 (a Service), or http://127.0.0.1:3000 for a sidecar" -}}
{{- end -}}
{{- end -}}
