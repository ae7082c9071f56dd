// What our client makes of a kubeconfig against what the real kubectl makes of it: both ask the same servers and proxies,
// and the requests that arrive there are compared.
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { connect, createServer as createNetServer, type AddressInfo, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { openKubeClient } from '../../src/io/kube/client.ts'
import { labProgram } from './support/coredns.ts'

/** The files of KUBECONFIG by their names, or one file for --kubeconfig; and the environment. */
interface Case {
  readonly files: Readonly<Record<string, unknown>>
  readonly search?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly context?: string
}

describe('a kubeconfig beside the real kubectl', function () {
  this.timeout(60 * 60_000)
  const folder = mkdtempSync(join(tmpdir(), 'rhizome-kubectl-'))
  const servers: Server[] = []
  let kubectl = ''
  let seen: string[] = []

  const put = (name: string, content: unknown, mode = 0o600): string => {
    const file = join(folder, name)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content), { mode })
    return file
  }
  const listen = (server: Server): Promise<number> =>
    new Promise((resolve) => {
      servers.push(server)
      server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port))
    })

  before(async () => {
    kubectl = await labProgram('kubectl')
  })
  after(() => {
    for (const server of servers) server.close()
    rmSync(folder, { recursive: true })
  })

  it('sends what kubectl sends, or refuses what kubectl refuses', async () => {
    makeCertificate(folder)
    const answer =
      (way: string) =>
      (request: IncomingMessage, response: ServerResponse): void => {
        const names = Object.keys(request.headers).filter((name) => name.startsWith('impersonate'))
        const impersonated = names.toSorted().map((name) => `${name}=${String(request.headers[name])}`)
        const path = request.url?.replace(/[?&]timeout=3s/, '')
        seen.push([way, path, request.headers.authorization ?? '-', ...impersonated].join(' '))
        response.setHeader('content-type', 'application/json').end('{"major":"1"}')
      }
    const [key, cert] = [readFileSync(join(folder, 'key.pem')), readFileSync(join(folder, 'ca.crt'))]
    const tls = await listen(createTlsServer({ key, cert }, answer('tls')))
    const plain = await listen(createServer(answer('plain')))
    const proxy = await listen(
      createServer(answer('forwarded')).on('connect', ({ url, headers }, socket) => {
        seen.push(`CONNECT ${url} ${headers['proxy-authorization'] ?? '-'}`)
        const upstream = connect(tls, '127.0.0.1', () => {
          socket.write('HTTP/1.1 200 OK\r\n\r\n')
          upstream.pipe(socket).pipe(upstream)
        })
        for (const end of [upstream, socket]) end.on('error', () => end.destroy())
      })
    )
    const socks = await listen(
      createNetServer((socket) => {
        socket.once('data', () => {
          socket.write(Buffer.from([5, 0]))
          socket.once('data', (asked) => {
            seen.push(`SOCKS ${asked.subarray(3).toString('hex')}`)
            const upstream = connect(tls, '127.0.0.1', () => {
              socket.write(Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
              upstream.pipe(socket).pipe(upstream)
            })
            upstream.on('error', () => socket.destroy())
          })
        })
        socket.on('error', () => socket.destroy())
      })
    )
    put('sub/ca.crt', cert.toString())
    put('token', 'from-file\n')
    put('sub/token', 'sub-file\n')
    put('empty', '')
    put('sub/helper', HELPER, 0o700)
    const cases = casesOf({ tls, plain, proxy, socks, folder })
    const wrong: string[] = []
    for (const [name, each] of Object.entries(cases)) {
      const [theirs, ours] = [await byKubectl(each), await byUs(each)]
      if (theirs !== ours) wrong.push(`${name}\n  kubectl: ${theirs}\n  we: ${ours}`)
    }
    assert.deepEqual(wrong, [])
  })

  /** The requests that arrived; "refused" where the program failed. */
  async function byKubectl({ files, search, env, context }: Case): Promise<string> {
    seen = []
    const paths = Object.entries(files).map(([name, content]) => put(name, content))
    const flags = search === undefined ? ['--kubeconfig', paths[0] ?? ''] : []
    const where = search?.map((name) => (name === '' ? '' : join(folder, name))).join(':')
    const failed = await new Promise<boolean>((resolve) => {
      execFile(
        kubectl,
        [
          'get',
          '--raw',
          '/version',
          '--request-timeout=3s',
          ...flags,
          ...(context ? ['--context', context] : [])
        ],
        {
          env: {
            PATH: process.env['PATH'],
            HOME: '/nonexistent',
            ...env,
            ...(where && { KUBECONFIG: where })
          },
          timeout: 20_000
        },
        (error) => resolve(error !== null)
      )
    })
    return failed ? 'refused' : [...new Set(seen)].join(' | ')
  }

  async function byUs({ files, search, env, context }: Case): Promise<string> {
    seen = []
    const [first = ''] = Object.keys(files)
    const before = { ...process.env }
    for (const name of Object.keys(process.env)) if (/proxy|kubeconfig/i.test(name)) delete process.env[name]
    const where = search?.map((name) => (name === '' ? '' : join(folder, name))).join(':')
    Object.assign(process.env, env, { HOME: '/nonexistent', ...(where && { KUBECONFIG: where }) })
    try {
      const from = search === undefined ? { kubeconfig: join(folder, first) } : { searches: true }
      const client = await openKubeClient({ ...from, context })
      await client.request({ path: '/version', deadlineMs: 3000 }).finally(() => client.close())
      return [...new Set(seen)].join(' | ')
    } catch {
      return 'refused'
    } finally {
      for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name]
      Object.assign(process.env, before)
    }
  }
})

// Answers with the words of KUBERNETES_EXEC_INFO that both sides have to give.
const HELPER = `#!/bin/sh
words=$(printf %s "$KUBERNETES_EXEC_INFO" | grep -oE 'ExecCredential|client.authentication.k8s.io/v1|"server":"[^"]*"|"interactive":[a-z]*' | tr -cd 'a-zA-Z0-9')
printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"exec-%s"}}' "$words"
`

function makeCertificate(folder: string): void {
  const names = 'subjectAltName=DNS:lab.example,IP:192.0.2.9,IP:2001:db8::9,IP:127.0.0.1'
  const subject = ['-days', '2', '-subj', '/CN=lab', '-addext', names]
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']
  const files = ['-keyout', join(folder, 'key.pem'), '-out', join(folder, 'ca.crt')]
  execFileSync('openssl', ['req', '-x509', '-nodes', ...curve, ...files, ...subject], { stdio: 'ignore' })
}

interface Ports {
  readonly tls: number
  readonly plain: number
  readonly proxy: number
  readonly socks: number
  readonly folder: string
}

function casesOf({ tls, plain, proxy, socks, folder }: Ports): Readonly<Record<string, Case>> {
  const here = { server: `https://127.0.0.1:${tls}`, 'certificate-authority': join(folder, 'ca.crt') }
  const far = { ...here, server: 'https://192.0.2.9:6443' }
  const config = (cluster: object, user: object, more: object = {}): object => ({
    'current-context': 'c',
    clusters: [{ name: 'k', cluster }],
    users: [{ name: 'u', user }],
    contexts: [{ name: 'c', context: { cluster: 'k', user: 'u' } }],
    ...more
  })
  const user = (of: object, name = 'f'): Case => ({ files: { [name]: config(here, of) } })
  const cluster = (of: object, env: Record<string, string> = {}): Case => ({
    files: { f: config(of, { token: 't' }) },
    env
  })
  const text = (of: string): Case => ({
    files: {
      f: `x: &t {token: anchored}\ncurrent-context: c\nclusters: [{name: k, cluster: ${JSON.stringify(here)}}]\nusers: [{name: u, user: ${of}}]\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n`
    }
  })
  const exec = (command: string, more: object = {}): object => ({
    exec: { apiVersion: 'client.authentication.k8s.io/v1', command, interactiveMode: 'Never', ...more }
  })
  const http = `http://127.0.0.1:${proxy}`
  const entries = config(here, { token: 't' }) as Record<'clusters' | 'contexts' | 'users', object[]>
  return {
    'a server without TLS': { files: { f: config({ server: `HTTP://127.0.0.1:${plain}/k8s/` }, {}) } },
    'a server without a scheme': { files: { f: config({ server: `localhost:${plain}` }, {}) } },
    'a path in the server': cluster({ ...here, server: `${here.server}/k8s/c-1/` }),
    'relative paths': {
      files: { 'sub/f': config({ ...here, 'certificate-authority': 'ca.crt' }, { tokenFile: 'token' }) }
    },
    'another name in the certificate': cluster({ ...here, 'tls-server-name': 'lab.example' }),
    'a wrong name in the certificate': cluster({ ...here, 'tls-server-name': 'other.example' }),
    'insecure and an authority': cluster({ ...here, 'insecure-skip-tls-verify': true }),
    password: user({ username: 'a:b', password: 'p@ß' }),
    tokenFile: user({ tokenFile: 'token' }),
    'tokenFile above the folder': user({ tokenFile: '../token' }, 'sub/f'),
    'tokenFile before token': user({ tokenFile: 'token', token: 't' }),
    'tokenFile that is missing': user({ tokenFile: 'gone' }),
    'tokenFile that is missing, and token': user({ tokenFile: 'gone', token: 't' }),
    'tokenFile that is empty, and token': user({ tokenFile: 'empty', token: 't' }),
    'tokenFile and a password': user({ tokenFile: 'token', username: 'a', password: 'b' }),
    'tokenFile and a helper': user({ tokenFile: 'token', ...exec('./helper') }, 'sub/f'),
    'token and a password': user({ token: 't', username: 'a', password: 'b' }),
    impersonation: user({
      tokenFile: 'token',
      as: 'jane',
      'as-groups': ['g1', 'g2'],
      'as-uid': '7',
      'as-user-extra': { 'Reason/x': ['a', 'b'] }
    }),
    'groups without a user': user({ token: 't', 'as-groups': ['g'] }),
    'a helper with a relative path': user(exec('./helper'), 'sub/f'),
    'a helper that is told of the cluster': user(exec('./helper', { provideClusterInfo: true }), 'sub/f'),
    'a helper without arguments and environment': user(exec('./helper', { args: null, env: null }), 'sub/f'),
    'a helper that is missing': user(exec('./nope')),
    'a missing file first': { files: { f: config(here, { token: 't' }) }, search: ['gone', 'f'] },
    'a missing file last': { files: { f: config(here, { token: 't' }) }, search: ['f', 'gone'] },
    'no entry between colons': { files: { f: config(here, { token: 't' }) }, search: ['', 'f', ''] },
    'one file twice': { files: { f: config(here, { token: 't' }) }, search: ['f', 'f'] },
    'an empty file': { files: { e: '', f: config(here, { token: 't' }) }, search: ['e', 'f'] },
    'the same names': {
      files: {
        f: config(here, { token: 'first' }),
        g: config({ server: 'https://127.0.0.1:1' }, { token: 'second' })
      },
      search: ['f', 'g']
    },
    'the user in another file': {
      files: {
        f: config(here, {}, { users: [] }),
        'sub/g': { users: [{ name: 'u', user: { tokenFile: 'token' } }] }
      },
      search: ['f', 'sub/g']
    },
    'entries that are not used': {
      files: {
        f: {
          ...entries,
          'current-context': 'c',
          clusters: [...entries.clusters, { name: 'x', cluster: {} }],
          contexts: [...entries.contexts, { name: 'y', context: { cluster: '', user: '' } }]
        }
      }
    },
    'one name twice in a file': {
      files: { f: { ...entries, users: [...entries.users, { name: 'u', user: {} }] } }
    },
    'another context': { files: { f: { ...entries, 'current-context': 'none' } }, context: 'c' },
    'a context that is missing': { files: { f: entries }, context: 'none' },
    'another kind': { files: { f: { ...entries, kind: 'Pod' } } },
    'a merge key': text('{<<: *t}'),
    'a number as token': text('{token: 0123}'),
    'a boolean as token': text('{token: yes}'),
    HTTPS_PROXY: cluster(far, { HTTPS_PROXY: http }),
    'https_proxy without a scheme': cluster(far, { https_proxy: `127.0.0.1:${proxy}` }),
    'HTTPS_PROXY with a password': cluster(far, { HTTPS_PROXY: `http://me:s%40c@127.0.0.1:${proxy}/` }),
    'HTTPS_PROXY to an IPv6 address': cluster(
      { ...far, server: 'https://[2001:db8::9]:6443' },
      { HTTPS_PROXY: http }
    ),
    'HTTPS_PROXY in capitals': cluster({ ...far, server: 'HTTPS://192.0.2.9' }, { HTTPS_PROXY: http }),
    'HTTPS_PROXY to a name': cluster({ ...far, server: 'https://lab.example' }, { HTTPS_PROXY: http }),
    'HTTPS_PROXY to this host': cluster(here, { HTTPS_PROXY: 'http://127.0.0.1:1' }),
    HTTP_PROXY: {
      files: { f: config({ server: 'http://192.0.2.9:8080' }, { token: 't' }) },
      env: { HTTP_PROXY: http }
    },
    'proxy-url before NO_PROXY': cluster(
      { ...far, 'proxy-url': http },
      { HTTPS_PROXY: 'http://127.0.0.1:1', NO_PROXY: '*' }
    ),
    'proxy-url that is empty': cluster({ ...far, 'proxy-url': '' }, { HTTPS_PROXY: http }),
    'a SOCKS proxy to an address': cluster(far, { HTTPS_PROXY: `socks5://127.0.0.1:${socks}` }),
    'a SOCKS proxy to a name': cluster({
      ...far,
      server: 'https://lab.example:6443',
      'proxy-url': `socks5://127.0.0.1:${socks}`
    })
  }
}
