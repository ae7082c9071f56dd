// The admission webhook inside the agent: it reads the credentials from the Secret and renews them when needed, runs
// the server, and writes the authority into the webhook's configuration. All agents do the same. An agent that writes
// second reads what the first one wrote (resourceVersion), so no leader is needed. src/app/cluster-dns/pod-dns.ts
// starts it.
import type { DnsInjection } from '../../core/kube/dns-injection.ts'
import {
  fieldsAt,
  getObject,
  hasStatus,
  STRATEGIC_MERGE_PATCH,
  textAt,
  type KubeApi
} from '../../core/kube/kube-api.ts'
import { isFields, type Fields } from '../../core/model/field-check.ts'
import { KUBERNETES_DOMAIN } from '../../core/model/zones.ts'
import { Loop } from '../timing/loop.ts'
import { credentialsOf, renewCredentials, secretData, type Credentials } from './credentials.ts'
import { WebhookError } from './errors.ts'
import { startWebhookServer } from './server.ts'

/** The address of the server and the client for the Kubernetes API. */
interface WebhookOptions {
  readonly api: KubeApi
  readonly host: string
  readonly port: number
  /** The namespace of the agent, in which the Secret and the Service are. */
  readonly namespace: string
  /** Called for each pod, because the address of the DNS service becomes known only after the start. */
  readonly settings: () => DnsInjection
  /**
   * Called after each check, every 5 s: with the error of a failed check, or with undefined. After a failure the
   * agent continues with the credentials that it has.
   */
  readonly onFault?: (error: WebhookError | undefined) => void
  /** The time in Unix milliseconds. Default: Date.now. */
  readonly now?: () => number
  /** IPv4 addresses for the certificate, for callers that do not use the name of the Service. */
  readonly ips?: readonly string[]
}

/** A running webhook. */
export interface Webhook {
  /** The port that the server listens on. */
  readonly port: number
  /**
   * Checks now: renews certificates that are due, and writes the authority where it is missing. Rejects with
   * WebhookError.
   */
  check(): Promise<void>
  /** Ends the checks and the server. */
  stop(): Promise<void>
}

/** The names that the chart gives to the objects of the webhook. */
const WEBHOOK_NAMES = {
  secret: 'rhizome-webhook',
  service: 'rhizome-webhook',
  configuration: 'rhizome'
} as const

// Renewal is due weeks before the end. But when an upgrade applies the configuration again, the authority is missing
// until the next check, and pods that are created in between never get the mesh's DNS. So a check runs as often as
// the other checks of the cluster's DNS.
const CHECK_MS = 5000
const CALL_MS = 10_000
// Number of attempts to write the Secret. A write is refused when another agent has written in between; the next
// attempt reads what that agent wrote, which almost always needs no further change.
const WRITE_TRIES = 5

/**
 * Resolves when the server listens; the checks run from then on. Rejects with WebhookError when the Secret is
 * missing, the API fails or the port is not free.
 */
export async function startWebhook(options: WebhookOptions): Promise<Webhook> {
  let credentials = await settle(options)
  const { host, port, settings } = options
  const server = await startWebhookServer({ host, port, settings, serving: credentials.serving })

  const check = async (): Promise<void> => {
    const found = await settle(options)
    if (found.serving.certificate !== credentials.serving.certificate) server.renew(found.serving)
    credentials = found
    await publishAuthority(options, credentials.bundle)
  }
  const checks = new Loop({
    act: async () => {
      await check()
      options.onFault?.(undefined)
    },
    intervalMs: CHECK_MS,
    onError: (error) => options.onFault?.(asWebhookError(error))
  })
  checks.start()
  return {
    port: server.port,
    check,
    async stop() {
      const checksEnded = checks.stop()
      await server.stop()
      await checksEnded
    }
  }
}

/**
 * Reads the credentials that all agents share. The first agent that finds them missing or due makes or renews them.
 */
async function settle(options: WebhookOptions): Promise<Credentials> {
  const { api, namespace, now = Date.now } = options
  const path = `/api/v1/namespaces/${namespace}/secrets/${WEBHOOK_NAMES.secret}`
  const { service } = WEBHOOK_NAMES
  const wanted = {
    dnsNames: [`${service}.${namespace}.svc`, `${service}.${namespace}.svc.${KUBERNETES_DOMAIN}`],
    ...(options.ips === undefined ? {} : { ips: options.ips })
  }
  for (let attempt = 0; attempt < WRITE_TRIES; attempt++) {
    const secret = await read(api, path)
    if (secret === undefined) {
      throw new WebhookError('NO_SECRET', {
        message: `there is no Secret ${namespace}/${WEBHOOK_NAMES.secret}`,
        fix: 'install the chart with webhook.enabled=true, which creates this Secret'
      })
    }
    const found = credentialsOf(fieldsAt(secret, 'data'))
    const credentials = renewCredentials(found, { ...wanted, nowMs: now() })
    if (credentials === found) return credentials
    try {
      // The body has the resourceVersion that was read, so the API server answers 409 when the Secret was changed in
      // between.
      await api.request({
        method: 'PUT',
        path,
        body: { ...secret, data: secretData(credentials) },
        signal: deadline()
      })
      return credentials
    } catch (error) {
      if (!hasStatus(error, 409)) throw failed('write', path, error)
    }
  }
  throw failed(
    'write',
    path,
    new Error(`other agents changed the object during each of ${WRITE_TRIES} attempts`)
  )
}

/** Writes `caBundle` into each webhook of the configuration that does not have it. No other field is changed. */
async function publishAuthority({ api }: WebhookOptions, bundle: string): Promise<void> {
  const path = `/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/${WEBHOOK_NAMES.configuration}`
  const configuration = await read(api, path)
  if (configuration === undefined) {
    throw new WebhookError('NO_CONFIGURATION', {
      message: `there is no MutatingWebhookConfiguration ${WEBHOOK_NAMES.configuration}`,
      fix: 'install the chart with webhook.enabled=true; until then the webhook gets no pods'
    })
  }
  const caBundle = Buffer.from(bundle).toString('base64')
  const webhooks = Array.isArray(configuration['webhooks']) ? configuration['webhooks'].filter(isFields) : []
  const stale = webhooks.filter((webhook) => textAt(webhook, 'clientConfig', 'caBundle') !== caBundle)
  if (stale.length === 0) return
  const body = { webhooks: stale.map(({ name }) => ({ name, clientConfig: { caBundle } })) }
  try {
    await api.request({ method: 'PATCH', path, contentType: STRATEGIC_MERGE_PATCH, body, signal: deadline() })
  } catch (error) {
    throw failed('write', path, error)
  }
}

async function read(api: KubeApi, path: string): Promise<Fields | undefined> {
  try {
    return await getObject(api, path, deadline())
  } catch (error) {
    throw failed('read', path, error)
  }
}

/** Each request to the API ends after CALL_MS, so that a hanging server does not stop the checks. */
function deadline(): AbortSignal {
  return AbortSignal.timeout(CALL_MS)
}

function failed(what: 'read' | 'write', path: string, cause: unknown): WebhookError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new WebhookError(
    'API_FAILED',
    {
      message: `cannot ${what} ${path}: ${reason}`,
      fix: 'give the service account the roles of the chart; the agent tries again every 5 s'
    },
    cause
  )
}

/** The error for onFault. Any other error than a WebhookError is a bug of this program, and the checks must go on. */
function asWebhookError(error: unknown): WebhookError {
  if (error instanceof WebhookError) return error
  return failed('read', 'what the webhook needs', error)
}
