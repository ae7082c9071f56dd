// Answers one AdmissionReview (admission.k8s.io/v1) of the API server. server.ts passes the body of the request;
// core/kube/dns-injection.ts decides the patch.
// Invariant: a pod is never refused. A request that cannot be understood gets no answer (undefined → 400), which the
// API server treats as "allowed" because of failurePolicy Ignore.
import { dnsPatch, type DnsInjection } from '../../core/kube/dns-injection.ts'
import { isFields, type Fields } from '../../core/model/field-check.ts'

/**
 * Returns the AdmissionReview to send, for JSON; undefined when the text is no review. It never throws on the content of
 * the text.
 */
export function answerReview(text: string, settings: DnsInjection): object | undefined {
  const request = parseRequest(text)
  if (request === undefined) return undefined
  const { uid, object } = request
  const patch = isPodCreation(request.fields) ? dnsPatch(object, request.namespace, settings) : undefined
  const response = {
    uid,
    allowed: true,
    ...(patch === undefined
      ? {}
      : { patchType: 'JSONPatch', patch: Buffer.from(JSON.stringify(patch)).toString('base64') })
  }
  return { apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview', response }
}

/** The fields of `request` that are used. `namespace` is "default" when the request has none. */
interface ReviewRequest {
  readonly uid: string
  readonly namespace: string
  readonly object: Fields
  readonly fields: Fields
}

function parseRequest(text: string): ReviewRequest | undefined {
  let review: unknown
  try {
    review = JSON.parse(text)
  } catch {
    return undefined // no JSON, no review
  }
  if (!isFields(review) || review['apiVersion'] !== 'admission.k8s.io/v1') return undefined
  const fields = review['request']
  if (!isFields(fields) || typeof fields['uid'] !== 'string') return undefined
  return {
    uid: fields['uid'],
    namespace: typeof fields['namespace'] === 'string' ? fields['namespace'] : 'default',
    object: isFields(fields['object']) ? fields['object'] : {},
    fields
  }
}

/** Whether the API server asks about a new pod. The configuration of the chart sends nothing else. */
function isPodCreation(request: Fields): boolean {
  const { kind, operation } = request
  return isFields(kind) && kind['group'] === '' && kind['kind'] === 'Pod' && operation === 'CREATE'
}
