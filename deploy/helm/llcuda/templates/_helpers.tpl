{{- define "llcuda.name" -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- define "llcuda.labels" -}}
app.kubernetes.io/name: llcuda
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}
{{- define "llcuda.selector" -}}
app.kubernetes.io/name: llcuda
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "llcuda.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "llcuda.name" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}
{{- define "llcuda.keysSecret" -}}
{{- default (printf "%s-keys" (include "llcuda.name" .)) .Values.keysSecret -}}
{{- end -}}
