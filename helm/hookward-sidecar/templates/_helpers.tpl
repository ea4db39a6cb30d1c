{{/*
Every template takes (dict "root" $ "values" V): the chart's context, and values shaped as this chart's
values.yaml, such as .Values.hookward.
*/}}

{{/* hookward's, which .Chart.AppVersion is not in a chart that takes this library in. */}}
{{- define "hookward-sidecar.version" -}}0.1.0{{- end -}}

{{- define "hookward-sidecar.image" -}}
{{- $image := .values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (include "hookward-sidecar.version" .) }}
{{- end -}}
{{- end -}}

{{/* Name of the ConfigMap and of the Service. */}}
{{- define "hookward-sidecar.fullname" -}}
{{ .values.fullnameOverride | default (printf "%s-hookward" .root.Release.Name) | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* "true" where hookward is a native sidecar: an init container with restartPolicy Always. */}}
{{- define "hookward-sidecar.is-native" -}}
{{- $version := .root.Capabilities.KubeVersion.Version -}}
{{- $native := toString .values.native -}}
{{- if and (eq $native "true") (semverCompare "<1.28-0" $version) -}}
{{- fail (printf "native: Kubernetes %s drops the restartPolicy of an init container, and the Pod would hang; write auto or false" $version) -}}
{{- end -}}
{{- if or (eq $native "true") (and (eq $native "auto") (semverCompare ">=1.29-0" $version)) -}}true{{- end -}}
{{- end -}}

{{/* Whole seconds of a duration as hookward reads it ("1m 30s"), rounded up. */}}
{{- define "hookward-sidecar.seconds" -}}
{{- $text := toString . -}}
{{- $ms := 0 -}}
{{- if not (regexMatch "^( *[0-9]+ *(ms|s|sec|m|min|h) *)+$|^0$" $text) -}}
{{- fail (printf "%s is not a duration that this chart reads; write such as 5s, 1m 30s or 500ms" $text) -}}
{{- end -}}
{{- range regexFindAll "[0-9]+ *[a-z]+" $text -1 -}}
{{- $amount := regexFind "[0-9]+" . | int64 -}}
{{- $unit := index (dict "ms" 1 "s" 1000 "sec" 1000 "m" 60000 "min" 60000 "h" 3600000) (regexFind "[a-z]+" .) -}}
{{- $ms = add $ms (mul $amount $unit) -}}
{{- end -}}
{{- div (add $ms 999) 1000 -}}
{{- end -}}

{{/* Bytes of a Kubernetes quantity (2Gi) or of a size as hookward reads it (1.5GiB). */}}
{{- define "hookward-sidecar.bytes" -}}
{{- $text := toString . | replace " " "" | trimSuffix "B" -}}
{{- if not (regexMatch "^[0-9]+([.][0-9]+)?([kKMGT]i?)?$" $text) -}}
{{- fail (printf "%s is not a size; write such as 512Mi or 2Gi" (toString .)) -}}
{{- end -}}
{{- $units := dict "k" 1e3 "K" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "ki" 1024.0 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 -}}
{{- $unit := regexFind "[kKMGT]i?" $text -}}
{{- $factor := 1.0 -}}
{{- if $unit -}}{{- $factor = index $units $unit -}}{{- end -}}
{{- printf "%.0f" (mulf (regexFind "^[0-9.]+" $text | float64) $factor) -}}
{{- end -}}

{{/* How long the preStop hook waits: until nothing comes in and nothing is pending, at most this long. */}}
{{- define "hookward-sidecar.drain-seconds" -}}
{{- $shutdown := default dict .values.config.shutdown -}}
{{- add (include "hookward-sidecar.seconds" ($shutdown.delay | default "0s")) (include "hookward-sidecar.seconds" ($shutdown.drain | default "10s")) -}}
{{- end -}}

{{/*
terminationGracePeriodSeconds: the preStop hook (delay and drain), hookward's own drain after SIGTERM
for what was still pending, and 5 s to close the buffer.
*/}}
{{- define "hookward-sidecar.grace-seconds" -}}
{{- $shutdown := default dict .values.config.shutdown -}}
{{- add (include "hookward-sidecar.drain-seconds" .) (include "hookward-sidecar.seconds" ($shutdown.drain | default "10s")) 5 -}}
{{- end -}}

{{/* Most that the buffer may take: 80 % of the volume, in MiB. */}}
{{- define "hookward-sidecar.cap-bytes" -}}
{{- div (mul (include "hookward-sidecar.bytes" .values.storage.size | int64) 8) 10 -}}
{{- end -}}
