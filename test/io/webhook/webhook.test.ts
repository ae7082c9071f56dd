// The webhook's certificates, its answers over real TLS, and its part in a (small, faithful) Kubernetes API.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request as httpsRequest } from 'node:https'
import { connect } from 'node:tls'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { KubeApi, KubeCall } from '../../../src/core/kube/kube-api.ts'
import { credentialsOf, renewCredentials, secretData } from '../../../src/io/webhook/credentials.ts'

import { listenError } from '../../../src/io/webhook/errors.ts'
import { startWebhookServer, type WebhookServer } from '../../../src/io/webhook/server.ts'
import { startWebhook } from '../../../src/io/webhook/webhook.ts'

const NAME = 'rhizome-webhook.rhizome-system.svc'
const NOW = Date.now()
const DAY = 86_400_000
const OPTIONS = { nowMs: NOW, dnsNames: [NAME], ips: ['127.0.0.1'] }
const SETTINGS = { nameservers: ['10.96.0.53'], clusterDomain: 'cluster.local', searches: [], ndots: 5 }

describe('webhook credentials', () => {
  it('are a chain that OpenSSL verifies, for the names of the service', () => {
    const { bundle, serving } = renewCredentials(undefined, OPTIONS)
    const folder = mkdtempSync(join(tmpdir(), 'webhook-test-'))
    try {
      writeFileSync(join(folder, 'ca'), bundle)
      writeFileSync(join(folder, 'leaf'), serving.certificate)
      const args = [
        'verify',
        '-x509_strict',
        '-purpose',
        'sslserver',
        '-verify_hostname',
        NAME,
        '-CAfile',
        'ca',
        'leaf'
      ]
      assert.equal(execFileSync('openssl', args, { cwd: folder, encoding: 'utf8' }), 'leaf: OK\n')
    } finally {
      rmSync(folder, { recursive: true })
    }
    const certificate = new X509Certificate(serving.certificate)
    assert.equal(certificate.checkHost('other.svc'), undefined)
    assert.equal(certificate.ca, false)
  })

  it('survive the Secret', () => {
    const credentials = renewCredentials(undefined, OPTIONS)
    assert.deepEqual(credentialsOf(secretData(credentials)), credentials)
    assert.equal(credentialsOf({}), undefined)
  })

  it('stay the same while they last, and are renewed a month before their end by the same authority', () => {
    const first = renewCredentials(undefined, OPTIONS)
    assert.equal(renewCredentials(first, { ...OPTIONS, nowMs: NOW + 59 * DAY }), first)
    const second = renewCredentials(first, { ...OPTIONS, nowMs: NOW + 61 * DAY })
    assert.equal(second.bundle, first.bundle)
    assert.notEqual(second.serving.certificate, first.serving.certificate)
  })

  it('keep the old authority in the bundle while its certificates are served', () => {
    const first = renewCredentials(undefined, OPTIONS)
    const later = renewCredentials(first, { ...OPTIONS, nowMs: NOW + 800 * DAY })
    assert.equal(later.bundle.match(/BEGIN CERT/g)?.length, 2)
    assert.ok(later.bundle.endsWith(first.bundle))
    const [newest = ''] = later.bundle.split(first.bundle)
    assert.ok(new X509Certificate(later.serving.certificate).verify(new X509Certificate(newest).publicKey))
  })

  it('are made anew for other names, and where the Secret holds something else', () => {
    const first = renewCredentials(undefined, OPTIONS)
    const renamed = renewCredentials(first, { ...OPTIONS, dnsNames: ['other.svc'] })
    assert.ok(new X509Certificate(renamed.serving.certificate).checkHost('other.svc'))
    for (const damaged of [
      { ...first, bundle: 'x' },
      { ...first, authorityKey: renewCredentials(undefined, OPTIONS).authorityKey },
      { ...first, serving: { ...first.serving, privateKey: 'x' } }
    ]) {
      const { bundle, serving } = renewCredentials(damaged, OPTIONS)
      assert.ok(new X509Certificate(serving.certificate).verify(new X509Certificate(bundle).publicKey))
    }
  })
})

describe('webhook server', () => {
  const credentials = renewCredentials(undefined, OPTIONS)
  let server: WebhookServer
  before(async () => {
    server = await startWebhookServer({
      host: '127.0.0.1',
      port: 0,
      serving: credentials.serving,
      settings: () => SETTINGS
    })
  })
  after(() => server.stop())
  const post = (body: string | Buffer, path = '/mutate-pod?timeout=2s') =>
    ask(server.port, credentials.bundle, { path, body })

  it('answers a pod with the patch, and always allows', async () => {
    const { status, text } = await post(review({ spec: { dnsPolicy: 'ClusterFirst' } }))
    assert.equal(status, 200)
    const { response, ...rest } = JSON.parse(text) as {
      response: { uid: string; allowed: boolean; patch: string }
    }
    assert.deepEqual(rest, { apiVersion: 'admission.k8s.io/v1', kind: 'AdmissionReview' })
    assert.deepEqual([response.uid, response.allowed], ['u1', true])
    const patch = JSON.parse(Buffer.from(response.patch, 'base64').toString()) as { path: string }[]
    assert.deepEqual(
      patch.map(({ path }) => path),
      ['/spec/dnsPolicy', '/spec/dnsConfig']
    )
  })

  it('allows without a patch what is no pod, or chose for itself', async () => {
    for (const body of [
      review({ spec: { dnsPolicy: 'None' } }),
      review({}, { kind: { group: 'apps', kind: 'Deployment' } }),
      review({}, { operation: 'DELETE' })
    ]) {
      const { response } = JSON.parse((await post(body)).text) as { response: object }
      assert.deepEqual(response, { uid: 'u1', allowed: true })
    }
  })

  it('gives no answer to what is no review, and goes on', async () => {
    assert.equal((await post('{')).status, 400)
    assert.equal((await post(JSON.stringify({ apiVersion: 'admission.k8s.io/v1beta1' }))).status, 400)
    assert.equal(
      (await post(JSON.stringify({ apiVersion: 'admission.k8s.io/v1', request: { uid: 5 } }))).status,
      400
    )
    assert.equal((await post('{}', '/other')).status, 404)
    assert.equal((await post(review({ spec: {} }))).status, 200)
  })

  it('answers 413 to a body above 3 MiB, whether its length is announced or not, and goes on', async () => {
    const body = Buffer.alloc(8 * 1024 * 1024, 0x20)
    const chunk = Buffer.concat([
      Buffer.from(`${body.length.toString(16)}\r\n`),
      body,
      Buffer.from('\r\n0\r\n\r\n')
    ])
    for (const [header, sent] of [
      [`content-length: ${body.length}`, body],
      ['transfer-encoding: chunked', chunk]
    ] as const) {
      const answer = await new Promise<string>((resolve, reject) => {
        const socket = connect({
          host: '127.0.0.1',
          port: server.port,
          ca: credentials.bundle,
          servername: NAME
        })
        let text = ''
        socket.on('error', reject).on('end', () => resolve(text))
        socket.setEncoding('utf8').on('data', (data: string) => (text += data))
        socket.write(`POST /mutate-pod HTTP/1.1\r\nhost: ${NAME}\r\n${header}\r\n\r\n`)
        socket.write(sent)
      })
      assert.match(answer, /^HTTP\/1\.1 413 [^]*\r\n\r\n[^]*at most 3145728 bytes\n/)
    }
    assert.equal((await post(review({ spec: {} }))).status, 200)
  })

  it('serves a renewed certificate to new connections, without an end of service', async () => {
    const later = renewCredentials(credentials, { ...OPTIONS, nowMs: NOW + 61 * DAY })
    // Of tomorrow's clock, but valid from an hour before it: only its issuer matters here.
    server.renew(later.serving)
    const error = await post(review({ spec: {} })).then(
      () => undefined,
      (error: NodeJS.ErrnoException) => error.code
    )
    assert.equal(error, 'CERT_NOT_YET_VALID')
    server.renew(credentials.serving)
    assert.equal((await post(review({ spec: {} }))).status, 200)
  })

  it('says which port is taken', async () => {
    const options = {
      host: '127.0.0.1',
      port: server.port,
      serving: credentials.serving,
      settings: () => SETTINGS
    }
    await assert.rejects(startWebhookServer(options), { code: 'PORT_IN_USE', fix: /`ss -lntp`/ })
  })

  it('says which address this host does not have', async () => {
    const options = {
      host: '192.0.2.1',
      port: 8443,
      serving: credentials.serving,
      settings: () => SETTINGS
    }
    await assert.rejects(startWebhookServer(options), {
      code: 'ADDRESS_NOT_LOCAL',
      message: 'the webhook cannot listen on 192.0.2.1:8443: no interface of this host has this address',
      fix: /^compare with `ip address`/
    })
  })

  it('has a fix for each failure to listen', () => {
    for (const [errno, code, fix] of [
      ['EADDRINUSE', 'PORT_IN_USE', /`ss -lntp`/],
      ['EACCES', 'PORT_FORBIDDEN', /1023/],
      ['EMFILE', 'LISTEN_FAILED', /webhook-listen/]
    ] as const) {
      const error = listenError(Object.assign(new Error(`listen ${errno}`), { code: errno }), '10.1.0.1:443')
      assert.equal(error.code, code)
      assert.match(error.fix, fix)
    }
  })
})

describe('webhook and the Kubernetes API', () => {
  it('agents that start together end with one authority, which the configuration then names', async () => {
    const api = fakeApi()
    const started = await Promise.allSettled([1, 2, 3].map(() => startWebhook({ ...AGENT, api })))
    const agents = started.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []))
    try {
      assert.equal(agents.length, 3)
      await Promise.all(agents.map((agent) => agent.check()))
      const credentials = credentialsOf(api.secret.data)
      assert.ok(credentials !== undefined)
      for (const webhook of api.configuration.webhooks) {
        assert.equal(
          Buffer.from(webhook.clientConfig.caBundle ?? '', 'base64').toString(),
          credentials.bundle
        )
        assert.equal(webhook.clientConfig.service, 'kept')
      }
      for (const { port } of agents)
        assert.equal((await ask(port, credentials.bundle, { body: review({ spec: {} }) })).status, 200)
      const { writes } = api
      await agents[0]?.check()
      assert.equal(api.writes, writes, 'nothing is written when all is well')
    } finally {
      await Promise.all(agents.map((agent) => agent.stop()))
    }
  })

  it('does not start without its Secret, and says what to do', async () => {
    const api: KubeApi = { request: () => Promise.reject(Object.assign(new Error('no'), { status: 404 })) }
    await assert.rejects(startWebhook({ ...AGENT, api }), { code: 'NO_SECRET', fix: /chart/ })
  })

  it('goes on serving with an API that fails', async () => {
    const api = fakeApi()
    const faults: (string | undefined)[] = []
    const webhook = await startWebhook({ ...AGENT, api, onFault: (error) => faults.push(error?.code) })
    try {
      api.broken = true
      await assert.rejects(webhook.check(), { code: 'API_FAILED' })
      const { bundle = '' } = credentialsOf(api.secret.data) ?? {}
      assert.equal((await ask(webhook.port, bundle, { body: review({ spec: {} }) })).status, 200)
    } finally {
      await webhook.stop()
    }
  })
})

const AGENT = {
  host: '127.0.0.1',
  port: 0,
  namespace: 'rhizome-system',
  settings: () => SETTINGS,
  ips: ['127.0.0.1']
}

interface FakeApi extends KubeApi {
  secret: { metadata: { resourceVersion: string }; data: Record<string, unknown> }
  configuration: { webhooks: { name: string; clientConfig: { service: string; caBundle?: string } }[] }
  writes: number
  broken: boolean
}

/** Two objects, with optimistic locking as the real one has it. */
function fakeApi(): FakeApi {
  const api: FakeApi = {
    secret: { metadata: { resourceVersion: '1' }, data: {} },
    configuration: { webhooks: ['a', 'b'].map((name) => ({ name, clientConfig: { service: 'kept' } })) },
    writes: 0,
    broken: false,
    request: async (call: KubeCall) => {
      await new Promise((resolve) => {
        setImmediate(resolve)
      })
      if (api.broken) throw new Error('connection refused')
      if (call.method === undefined)
        return structuredClone(call.path.includes('/secrets/') ? api.secret : api.configuration)
      if (call.method === 'PUT') {
        const body = call.body as FakeApi['secret']
        if (body.metadata.resourceVersion !== api.secret.metadata.resourceVersion)
          throw Object.assign(new Error('conflict'), { status: 409 })
        api.secret = {
          ...structuredClone(body),
          metadata: { resourceVersion: `${Number(body.metadata.resourceVersion) + 1}` }
        }
      } else {
        for (const { name, clientConfig } of (call.body as FakeApi['configuration']).webhooks) {
          Object.assign(
            api.configuration.webhooks.find((webhook) => webhook.name === name)?.clientConfig ?? {},
            clientConfig
          )
        }
      }
      api.writes++
      return {}
    }
  }
  return api
}

function review(object: object, request: object = {}): string {
  return JSON.stringify({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: 'u1',
      kind: { group: '', version: 'v1', kind: 'Pod' },
      operation: 'CREATE',
      namespace: 'shop',
      object,
      ...request
    }
  })
}

/** As the API server asks: by the name of the service, trusting the bundle only. */
function ask(
  port: number,
  ca: string,
  what: { path?: string; body: string | Buffer }
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest(
      {
        host: '127.0.0.1',
        port,
        ca,
        servername: NAME,
        path: what.path ?? '/mutate-pod',
        method: 'POST',
        agent: false,
        timeout: 5000
      },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() })
        )
      }
    )
    request.on('error', reject)
    request.end(what.body)
  })
}
