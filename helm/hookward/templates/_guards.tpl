{{/* What only this chart can get wrong; the library guards the rest. */}}
{{- define "hookward.guards" -}}
{{- if and (eq .Values.mode "sidecar") (not .Values.app.image) -}}
{{- fail "app.image: mode sidecar puts hookward beside an app; which? For an app of its own chart take the library chart hookward-sidecar" -}}
{{- end -}}
{{- if and (eq .Values.mode "gateway") .Values.app.image -}}
{{- fail "app.image: is used in mode sidecar only; write mode: sidecar, or config.upstream.url for a gateway" -}}
{{- end -}}
{{- if and (eq .Values.mode "gateway") .Values.app.service.enabled -}}
{{- fail "app.service.enabled: is used in mode sidecar only" -}}
{{- end -}}
{{- if and (eq .Values.mode "sidecar") (or (eq (int .Values.app.port) (int .Values.listen.port)) (eq (int .Values.app.port) (int .Values.admin.port))) -}}
{{- fail (printf "app.port: %d is hookward's own; the Pod's containers share their ports, so change listen.port or admin.port" (int .Values.app.port)) -}}
{{- end -}}
{{- if and .Values.storage.existingClaim (gt (int .Values.replicas) 1) -}}
{{- fail "storage.existingClaim: one volume is for one Pod; write replicas: 1, or leave it out so that each Pod gets a claim of its own" -}}
{{- end -}}
{{- $reports := false -}}
{{- range .Values.config.routes -}}{{- if .ip_allowlist -}}{{- $reports = true -}}{{- end -}}{{- end -}}
{{- if and (or .Values.ingress.enabled .Values.httpRoute.enabled) (include "hookward.trusts-nobody" .) (not $reports) -}}
{{- fail "config.client_ip.trusted_proxies: behind an Ingress or HTTPRoute every webhook seems to come from the proxy and would be refused (ip_denied); write the addresses of its Pods" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.host: under which name do the webhooks come in?" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs: which Gateway?" -}}
{{- end -}}
{{- if and (or .Values.ingress.enabled .Values.httpRoute.enabled) .Values.listen.proxyProtocol -}}
{{- fail "listen.proxyProtocol: an Ingress or Gateway speaks HTTP and sends no PROXY header; switch one of them off" -}}
{{- end -}}
{{- if and .Values.service.externalTrafficPolicy (eq .Values.service.type "ClusterIP") -}}
{{- fail "service.externalTrafficPolicy: is for service.type LoadBalancer or NodePort" -}}
{{- end -}}
{{- if and (or .Values.service.loadBalancerClass .Values.service.loadBalancerSourceRanges) (ne .Values.service.type "LoadBalancer") -}}
{{- fail "service.loadBalancerClass and service.loadBalancerSourceRanges: are for service.type LoadBalancer" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled -}}
{{- fail "serviceMonitor and podMonitor: one of them, or everything is counted twice" -}}
{{- end -}}
{{- $sidecar := dict "root" . "values" (include "hookward.sidecar-values" . | fromYaml) -}}
{{- $grace := include "hookward-sidecar.grace-seconds" $sidecar | int -}}
{{- if and .Values.terminationGracePeriodSeconds (lt (int .Values.terminationGracePeriodSeconds) $grace) -}}
{{- fail (printf "terminationGracePeriodSeconds: %d would cut the drain off; write %d or more, leave it out, or shorten config.shutdown" (int .Values.terminationGracePeriodSeconds) $grace) -}}
{{- end -}}
{{- end -}}
