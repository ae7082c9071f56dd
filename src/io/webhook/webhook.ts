// The admission webhook as a part of the agent: credentials from the Secret, made or renewed when needed; the server; the authority in
// the webhook's configuration. All agents do the same; who writes second reads what the first wrote (resourceVersion), so no leader is needed.
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
import { startWebhookServer, type WebhookServerOptions } from './server.ts'

interface WebhookOptions {
  readonly api: KubeApi
  readonly host: string
  readonly port: number
  /** Of the agent. */
  readonly namespace: string
  readonly settings: () => DnsInjection
  readonly onReview?: WebhookServerOptions['onReview']
  /** A check that failed, and undefined after one that did not: the agent goes on with what it has. */
  readonly onFault?: (error: WebhookError | undefined) => void
  /** Default Date.now. */
  readonly now?: () => number
  /** For callers without the name of the Service. */
  readonly ips?: readonly string[]
}

export interface Webhook {
  readonly port: number
  /** Looks now: renews what is due, and puts the authority where it is missing. Errors: WebhookError. */
  check(): Promise<void>
  stop(): Promise<void>
}

const WEBHOOK_NAMES = {
  secret: 'rhizome-webhook',
  service: 'rhizome-webhook',
  configuration: 'rhizome'
} as const

// Renewal is due weeks ahead, but a configuration that an upgrade applied anew lacks its authority until the next check, and pods that
// are made meanwhile miss the mesh for good: as often as the agent looks at the other things that it keeps there.
const CHECK_MS = 5000
const CALL_MS = 10_000
// A write fails when another agent has written first; its result is then almost always the wanted one.
const WRITE_TRIES = 5

/** Errors: WebhookError. */
export async function startWebhook(options: WebhookOptions): Promise<Webhook> {
  let credentials = await settle(options)
  const { host, port, settings, onReview } = options
  const server = await startWebhookServer({
    host,
    port,
    settings,
    serving: credentials.serving,
    ...(onReview === undefined ? {} : { onReview })
  })

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

/** Reads the credentials that all agents share. The first agent that finds them missing or due makes or renews them. */
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
        fix: 'install with the webhook enabled: the chart makes this Secret empty'
      })
    }
    const found = credentialsOf(fieldsAt(secret, 'data'))
    const credentials = renewCredentials(found, { ...wanted, nowMs: now() })
    if (credentials === found) return credentials
    try {
      // With the resourceVersion that was read: a Secret changed in between is a conflict.
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
  throw failed('write', path, new Error(`changed by others ${WRITE_TRIES} times in a row`))
}

/** Only `caBundle`, and only where it is not what it should be. */
async function publishAuthority({ api }: WebhookOptions, bundle: string): Promise<void> {
  const path = `/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/${WEBHOOK_NAMES.configuration}`
  const configuration = await read(api, path)
  if (configuration === undefined) {
    throw new WebhookError('NO_CONFIGURATION', {
      message: `there is no MutatingWebhookConfiguration ${WEBHOOK_NAMES.configuration}`,
      fix: 'install with the webhook enabled; until then no pod is sent here'
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

function deadline(): AbortSignal {
  return AbortSignal.timeout(CALL_MS)
}

function failed(what: 'read' | 'write', path: string, cause: unknown): WebhookError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new WebhookError(
    'API_FAILED',
    {
      message: `cannot ${what} ${path}: ${reason}`,
      fix: 'give the service account the roles of the chart; it is tried again'
    },
    cause
  )
}

function asWebhookError(error: unknown): WebhookError {
  if (error instanceof WebhookError) return error
  // Nothing else is thrown on a good or bad day of the API: this is a fault of ours, and the agent must go on.
  return failed('read', 'what the webhook needs', error)
}
