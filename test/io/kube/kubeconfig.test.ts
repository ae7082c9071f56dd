// A kubeconfig as kubectl reads it. test/lab/kubeconfig.test.ts compares the same kinds of files with the real kubectl.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { openKubeClient } from '../../../src/io/kube/client.ts'
import { readKubeconfig } from '../../../src/io/kube/kubeconfig.ts'

describe('a kubeconfig', () => {
  let folder = ''
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'rhizome-kubeconfig-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  const put = (name: string, content: unknown): string => {
    const file = join(folder, name)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content))
    return file
  }
  const config = (cluster: object, user: object = {}, more: object = {}): object => ({
    'current-context': 'c',
    clusters: [{ name: 'k', cluster }],
    users: [{ name: 'u', user }],
    contexts: [{ name: 'c', context: { cluster: 'k', user: 'u' } }],
    ...more
  })
  const SERVER = { server: 'https://k.example:6443' }
  const read = (...files: string[]) => readKubeconfig(files, undefined)

  it('has the entries of the first file that names them, whatever files are missing or empty (property)', () => {
    const name: fc.Arbitrary<string> = fc.constantFrom('a', 'b', 'c')
    const file = fc.oneof(
      fc.constant('missing' as const),
      fc.constant('empty' as const),
      fc.record({
        clusters: fc.uniqueArray(name),
        users: fc.uniqueArray(name),
        contexts: fc.uniqueArray(fc.record({ name, cluster: name, user: name }), {
          selector: (context) => context.name
        }),
        current: fc.option(name, { nil: undefined })
      })
    )
    fc.assert(
      fc.property(fc.array(file, { maxLength: 4 }), (files) => {
        const paths = files.map((each, index) => {
          if (each === 'missing') return join(folder, `none-${index}`)
          if (each === 'empty') return put(`f${index}`, index % 2 === 0 ? '' : '# nothing\n')
          return put(`f${index}`, {
            ...(each.current === undefined ? {} : { 'current-context': each.current }),
            clusters: each.clusters.map((id) => ({
              name: id,
              cluster: { server: `https://${index}.${id}` }
            })),
            users: each.users.map((id) => ({ name: id, user: { token: `${index}-${id}` } })),
            contexts: each.contexts.map(({ name: id, ...context }) => ({ name: id, context }))
          })
        })
        const known = files.flatMap((each, index) => (typeof each === 'string' ? [] : [{ ...each, index }]))
        const current = known.find((each) => each.current !== undefined)?.current
        const context = known.flatMap(({ contexts }) => contexts).find((each) => each.name === current)
        const cluster = known.find(({ clusters }) => clusters.includes(context?.cluster ?? ''))
        const user = known.find(({ users }) => users.includes(context?.user ?? ''))
        if (files.every((each) => each === 'missing')) assert.equal(read(...paths), undefined)
        else if (context === undefined || cluster === undefined || user === undefined)
          assert.throws(() => read(...paths), /context/)
        else {
          const found = read(...paths)
          assert.deepEqual(
            [found?.cluster.server, found?.user.token],
            [`https://${cluster.index}.${context.cluster}`, `${user.index}-${context.user}`]
          )
        }
      })
    )
  })

  it('needs only the entries that are used', () => {
    const file = put('f', {
      ...config(SERVER, { token: 't' }),
      clusters: [
        { name: 'k', cluster: SERVER },
        { name: 'x', cluster: {} }
      ],
      contexts: [
        { name: 'c', context: { cluster: 'k' } },
        { name: 'y', context: { cluster: '' } }
      ]
    })
    assert.equal(read(file)?.cluster.server, SERVER.server)
    assert.equal(read(file)?.user.name, '')
  })

  it('is YAML 1.1 with merge keys, and its texts are texts', () => {
    const yaml = (user: string): string =>
      `x: &t {token: anchored}\ncurrent-context: c\nclusters: [{name: k, cluster: {server: "https://k"}}]\nusers: [{name: u, user: ${user}}]\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n`
    assert.equal(read(put('f', yaml('{<<: *t}')))?.user.token, 'anchored')
    assert.equal(read(put('f', `\ufeff${yaml('{token: "0123"}')}`))?.user.token, '0123')
    for (const value of ['0123', 'yes', '1.0', '[]'])
      assert.throws(() => read(put('f', yaml(`{token: ${value}}`))), /users\[0\]\.user\.token is not a text/)
  })

  it('says what is wrong, with the file or the entry', () => {
    const twice = { users: [{ name: 'u', user: {} }, { name: 'u' }] }
    const wrong: readonly (readonly [unknown, RegExp])[] = [
      [config({}), /the cluster "k" has no server/],
      [
        config({ server: 'ftp://k' }),
        /the server "ftp:\/\/k" of the cluster "k" is no URL with http or https/
      ],
      [config({ server: 'https://' }), /is no URL/],
      [
        config({ ...SERVER, 'insecure-skip-tls-verify': true, 'certificate-authority': 'x' }),
        /only one of them is allowed/
      ],
      [config(SERVER, { token: 't', username: 'a', password: 'b' }), /only one of them is allowed/],
      [config(SERVER, { tokenFile: 't', username: 'a' }), /only one of them is allowed/],
      [config(SERVER, { 'as-groups': ['g'] }), /without as/],
      [config(SERVER, {}, twice), /users has the name "u" twice/],
      [config(SERVER, {}, { users: [] }), /names the user "u", which is in no file/],
      [config(SERVER, {}, { clusters: 5 }), /clusters is not a list/],
      [config(SERVER, {}, { kind: 'Pod' }), /is "Pod" of "v1", but not "Config"/],
      [config(SERVER, {}, { 'current-context': '' }), /no current-context/],
      ['a: [', /malformed YAML/],
      ['just a text', /but not "Config"/]
    ]
    for (const [content, message] of wrong) assert.throws(() => read(put('f', content)), message)
  })

  it('has paths relative to its folder, and data before files', () => {
    const { cluster, user, tokenFile } =
      read(
        put(
          'sub/f',
          config(
            { ...SERVER, 'certificate-authority': 'ca.crt' },
            {
              tokenFile: '../token',
              'client-certificate': '/abs/cert',
              'client-key': 'key',
              'client-key-data': 'AA=='
            }
          )
        )
      ) ?? assert.fail()
    assert.deepEqual(
      [cluster.caFile, tokenFile, user.certFile, user.keyFile, user.keyData],
      [join(folder, 'sub/ca.crt'), join(folder, 'token'), '/abs/cert', undefined, 'AA==']
    )
  })

  it('gives a server its scheme', () => {
    const server = (cluster: object): string | undefined => read(put('f', config(cluster)))?.cluster.server
    assert.equal(server({ server: '10.0.0.1:8080' }), 'http://10.0.0.1:8080')
    assert.equal(server({ server: 'localhost:8080' }), 'http://localhost:8080')
    assert.equal(server({ server: 'k:6443', 'certificate-authority': 'x' }), 'https://k:6443')
    assert.equal(server({ server: 'HTTPS://K.example/k8s/c-1//' }), 'https://k.example/k8s/c-1')
    assert.equal(server({ server: 'https://[FD00::1]:6443' }), 'https://[fd00::1]:6443')
  })

  it('gives a login helper its path and KUBERNETES_EXEC_INFO', () => {
    const exec = {
      apiVersion: 'client.authentication.k8s.io/v1',
      command: './helper',
      provideClusterInfo: true
    }
    const cluster = { ...SERVER, 'certificate-authority-data': 'QQ==' }
    const helperOf = (file: string) =>
      (read(file)?.user.exec ?? {}) as { command?: string; env?: { value: string }[]; args?: string[] }
    const { command, env, args } = helperOf(put('sub/f', config(cluster, { exec })))
    assert.deepEqual([command, args], [join(folder, 'sub/helper'), []])
    assert.deepEqual(JSON.parse(env?.[0]?.value ?? ''), {
      kind: 'ExecCredential',
      apiVersion: exec.apiVersion,
      spec: { interactive: false, cluster: { ...cluster, config: null } }
    })
    assert.equal(helperOf(put('g', config(SERVER, { exec: { command: 'aws' } }))).command, 'aws')
    assert.equal(read(put('h', config(SERVER, { exec, token: 't' })))?.user.exec, undefined)
  })

  describe('in requests', () => {
    let server: Server
    let seen: IncomingMessage[] = []
    let port = 0
    beforeEach(async () => {
      seen = []
      server = createServer((request, response) => {
        seen.push(request)
        response.end('{}')
      })
      await new Promise<void>((resolve) => {
        server.listen(0, '127.0.0.1', resolve)
      })
      port = (server.address() as AddressInfo).port
    })
    afterEach(() => {
      server.closeAllConnections()
      server.close()
    })

    async function ask(cluster: object, user: object): Promise<IncomingMessage | undefined> {
      const client = await openKubeClient({ kubeconfig: put('f', config(cluster, user)) })
      try {
        await client.request({ path: '/version', query: { a: 'b' } })
      } finally {
        client.close()
      }
      return seen.at(-1)
    }

    it('reads tokenFile for each request, and takes token while the file is missing or empty', async () => {
      const here = { server: `http://127.0.0.1:${port}` }
      const user = { tokenFile: 'tok', token: 'old\n' }
      await assert.rejects(ask(here, { tokenFile: 'tok' }), /the tokenFile cannot be read.*tok/)
      assert.equal((await ask(here, user))?.headers.authorization, 'Bearer old')
      put('tok', ' \n')
      assert.equal((await ask(here, user))?.headers.authorization, 'Bearer old')
      put('tok', 'new\n')
      const client = await openKubeClient({ kubeconfig: join(folder, 'f') })
      await client.request({ path: '/version' })
      assert.equal(seen.at(-1)?.headers.authorization, 'Bearer new')
      put('tok', 'newest\n')
      await client.request({ path: '/version' })
      client.close()
      assert.equal(seen.at(-1)?.headers.authorization, 'Bearer newest')
    })

    it('asks for all that `as` says', async () => {
      const as = {
        as: 'jane',
        'as-groups': ['g1', 'g2'],
        'as-uid': '7',
        'as-user-extra': { 'Reason/x': ['a'] }
      }
      const request = await ask({ server: `http://127.0.0.1:${port}` }, as)
      assert.deepEqual(
        request?.rawHeaders.flatMap((each, at, all) =>
          each.startsWith('impersonate') ? [`${each}: ${all[at + 1]}`] : []
        ),
        [
          'impersonate-user: jane',
          'impersonate-uid: 7',
          'impersonate-group: g1',
          'impersonate-group: g2',
          'impersonate-extra-reason%2fx: a'
        ]
      )
    })

    it('lets a proxy ask a server without TLS, and shows it no token and no password', async () => {
      const cluster = { server: 'http://192.0.2.9/k', 'proxy-url': `http://me:s%40c@127.0.0.1:${port}` }
      for (const user of [{ token: 't' }, { username: 'a', password: 'b' }]) {
        const { url, headers } = (await ask(cluster, user)) ?? assert.fail()
        assert.deepEqual(
          [url, headers.host, headers.authorization, headers['proxy-authorization']],
          ['http://192.0.2.9/k/version?a=b', '192.0.2.9', undefined, 'Basic bWU6c0Bj']
        )
      }
    })

    it('names a proxy with CONNECT what the server is, and says how it answers', async () => {
      const asked: string[] = []
      server.on('connect', ({ url }, socket) => {
        asked.push(url ?? '')
        socket.end('HTTP/1.1 407 no\r\n\r\n')
      })
      for (const host of ['192.0.2.9:6443', '[2001:db8::9]', 'k.example'])
        await assert.rejects(
          ask({ server: `HTTPS://${host}`, 'proxy-url': `http://127.0.0.1:${port}` }, { token: 't' }),
          { code: 'NETWORK', message: /the proxy 127.0.0.1:\d+ answers CONNECT .* with status 407/ }
        )
      assert.deepEqual(asked, ['192.0.2.9:6443', '[2001:db8::9]:443', 'k.example:443'])
    })

    it('refuses a proxy of another kind', async () => {
      const cluster = { ...SERVER, 'proxy-url': 'ftp://127.0.0.1' }
      await assert.rejects(ask(cluster, {}), {
        code: 'BAD_CONFIG',
        message: /proxy does not begin with http/
      })
    })
  })
})
