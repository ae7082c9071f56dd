import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openKubeClient, type KubeClient } from '../../../src/io/kube/client.ts'
import { proxyOf } from '../../../src/io/kube/proxy.ts'

describe('a Kubernetes client', () => {
  let folder: string
  let server: Server
  let client: KubeClient | undefined
  let answer: (request: IncomingMessage, response: ServerResponse) => void
  let connections: number

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rhizome-kube-client-'))
    connections = 0
    server = createServer((request, response) => answer(request, response)).on('connection', () => {
      connections += 1
    })
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
  })

  afterEach(async () => {
    client?.close()
    server.closeAllConnections()
    await new Promise((resolve) => {
      server.close(resolve)
    })
    await rm(folder, { recursive: true })
  })

  async function open(user: object): Promise<KubeClient> {
    const address = server.address()
    assert.ok(address !== null && typeof address === 'object')
    const cluster = { server: `http://127.0.0.1:${address.port}/` }
    const kubeconfig = join(folder, 'kubeconfig')
    await writeFile(
      kubeconfig,
      JSON.stringify({
        'current-context': 'lab',
        clusters: [{ name: 'lab', cluster }],
        users: [{ name: 'lab', user }],
        contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'lab', namespace: 'rhizome' } }]
      })
    )
    client = await openKubeClient({ kubeconfig })
    return client
  }

  it('uses one connection for requests in a row', async () => {
    answer = (_request, response) => response.end('{}')
    const kube = await open({ token: 't' })
    for (let n = 0; n < 5; n += 1) await kube.request({ path: '/version' })
    assert.deepEqual([connections, kube.namespace], [1, 'rhizome'])
  })

  it('asks a question again when a connection that it had kept turns out to be closed, but sends no change twice', async () => {
    const asked: string[] = []
    const ended = new Set<unknown>()
    answer = ({ method, url, socket }, response) => {
      asked.push(`${method} ${url}`)
      if (ended.has(socket)) socket.destroy()
      else response.end('{}')
      ended.add(socket)
    }
    const kube = await open({ token: 't' })
    await kube.request({ path: '/one' })
    await kube.request({ path: '/two' })
    assert.deepEqual([asked, connections], [['GET /one', 'GET /two', 'GET /two'], 2])
    await assert.rejects(kube.request({ method: 'PUT', path: '/three', body: {} }), { code: 'NETWORK' })
    assert.deepEqual(asked.slice(3), ['PUT /three'])
    answer = ({ socket }) => socket.destroy()
    await assert.rejects(kube.request({ path: '/four' }), { code: 'NETWORK' })
  })

  it('reads a renewed token after the old one was refused', async () => {
    const accepted = 'second'
    answer = (request, response) => {
      const good = request.headers.authorization === `Bearer ${accepted}`
      response.writeHead(good ? 200 : 401).end('{}')
    }
    const old = await open({ token: 'first' })
    await assert.rejects(old.request({ path: '/version' }), { code: 'UNAUTHORIZED', status: 401 })
    const fresh = await open({ token: accepted })
    assert.deepEqual(await old.request({ path: '/version' }), {})
    old.close()
    fresh.close()
  })

  it('takes a token file that ends in a newline', async () => {
    const tokenFile = join(folder, 'token')
    await writeFile(tokenFile, 'from-file\n')
    let seen: string | undefined
    answer = (request, response) => {
      seen = request.headers.authorization
      response.end('{}')
    }
    const kube = await open({ 'auth-provider': { name: 'tokenFile', config: { tokenFile } } })
    await kube.request({ path: '/version' })
    assert.equal(seen, 'Bearer from-file')
  })

  it('reads tokenFile of a user as kubectl does: relative to the kubeconfig, before token, and again once it is renewed', async () => {
    const seen: (string | undefined)[] = []
    answer = (request, response) => {
      seen.push(request.headers.authorization)
      response.writeHead(request.headers.authorization === 'Bearer stale' ? 401 : 200).end('{}')
    }
    await writeFile(join(folder, 'sa-token'), 'stale\n')
    const kube = await open({ tokenFile: 'sa-token', token: 'not this' })
    await assert.rejects(kube.request({ path: '/version' }), { code: 'UNAUTHORIZED' })
    await writeFile(join(folder, 'sa-token'), 'renewed\n')
    await kube.request({ path: '/version' })
    assert.deepEqual(seen, ['Bearer stale', 'Bearer renewed'])
  })

  it('sends requests through the proxy of the environment, except to what NO_PROXY names', () => {
    const env = {
      HTTPS_PROXY: 'proxy.example:3128',
      no_proxy: '.svc, corp.example, 10.0.0.0/8, 192.0.2.7, fd00::/8, api.lab:6443, *.wild.example'
    }
    const through = 'http://proxy.example:3128'
    const cases: readonly (readonly [url: string, proxy: string | undefined])[] = [
      ['https://203.0.113.5:6443', through],
      ['https://api.example.org', through],
      ['https://svc', through],
      ['https://notcorp.example', through],
      ['https://api.lab:8443', through],
      ['https://192.0.2.70', through],
      ['https://[2001:db8::1]:6443', through],
      ['http://203.0.113.5', undefined],
      ['https://kubernetes.default.svc', undefined],
      ['https://corp.example', undefined],
      ['https://API.corp.example', undefined],
      ['https://10.96.0.1', undefined],
      ['https://192.0.2.7:6443', undefined],
      ['https://[fd00::1]', undefined],
      ['https://api.lab:6443', undefined],
      ['https://a.wild.example', undefined],
      ['https://localhost:6443', undefined],
      ['https://127.0.0.53:6443', undefined],
      ['https://[::1]:6443', undefined]
    ]
    for (const [url, proxy] of cases) assert.equal(proxyOf(url, env), proxy, url)
    assert.equal(proxyOf('https://203.0.113.5', { ...env, no_proxy: '*' }), undefined)
    assert.equal(proxyOf('https://203.0.113.5', { https_proxy: 'socks5://p:1' }), 'socks5://p:1')
    assert.equal(proxyOf('https://203.0.113.5', {}), undefined)
  })

  it('sends a body and a query', async () => {
    let seen = ''
    answer = (request, response) => {
      request.setEncoding('utf8').on('data', (text: string) => {
        seen = `${request.method} ${request.url} ${request.headers['content-type']} ${text}`
      })
      request.on('end', () => response.end('{"ok":true}'))
    }
    const kube = await open({ token: 't' })
    const body = { a: 'ü' }
    assert.deepEqual(await kube.request({ method: 'PUT', path: '/x', query: { q: 'a b' }, body }), {
      ok: true
    })
    assert.equal(seen, 'PUT /x?q=a+b application/json {"a":"ü"}')
  })

  it('fails with a code for what the network and the server can do', async () => {
    const kube = await open({ token: 't' })
    const cases: readonly (readonly [typeof answer, string])[] = [
      [(_request, response) => response.end('<html>'), 'BAD_RESPONSE'],
      [(_request, response) => response.writeHead(502).end('<html>'), 'SERVER_FAILED'],
      [(_request, response) => response.writeHead(409).end('{"message":"modified"}'), 'CONFLICT'],
      [(_request, response) => response.writeHead(422).end('{}'), 'REFUSED_BY_KUBERNETES'],
      [(request) => request.socket.destroy(), 'NETWORK'],
      [(_request, response) => response.writeHead(200, { 'content-length': '9' }).flushHeaders(), 'TIMEOUT'],
      [() => undefined, 'TIMEOUT']
    ]
    for (const [each, code] of cases) {
      answer = each
      await assert.rejects(kube.request({ path: '/x', deadlineMs: 100 }), { name: 'KubeError', code })
    }
    const reason = new Error('enough')
    await assert.rejects(kube.request({ path: '/x', signal: AbortSignal.abort(reason) }), reason)
  })

  it('says what is wrong with a configuration', async () => {
    await assert.rejects(openKubeClient({ kubeconfig: join(folder, 'none') }), {
      code: 'BAD_CONFIG',
      message: /none cannot be used/
    })
    await assert.rejects(openKubeClient(), { code: 'BAD_CONFIG', message: /service account/ })
  })

  it('names the file that fails where it searches as kubectl does', async () => {
    const before = { KUBECONFIG: process.env['KUBECONFIG'], HOME: process.env['HOME'] }
    const broken = join(folder, 'broken')
    const home = join(folder, '.kube', 'config')
    await writeFile(broken, 'clusters: 5\n')
    await mkdir(join(folder, '.kube'))
    await writeFile(home, 'clusters: 5\n')
    try {
      process.env['KUBECONFIG'] = `${join(folder, 'none')}:${broken}`
      await assert.rejects(openKubeClient({ searches: true }), (error: Error) => {
        assert.match(error.message, /none, .*broken cannot be used/)
        assert.doesNotMatch(error.message, /service account/)
        return true
      })
      delete process.env['KUBECONFIG']
      process.env['HOME'] = folder
      await assert.rejects(openKubeClient({ searches: true }), {
        code: 'BAD_CONFIG',
        message: new RegExp(`^${home} cannot be used`)
      })
    } finally {
      for (const [name, value] of Object.entries(before)) {
        if (value === undefined) delete process.env[name]
        else process.env[name] = value
      }
    }
  })
})
