// A resolv.conf is followed while the responder runs, however it is written.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { DnsProblem } from '../../../src/io/dns/problems.ts'
import { findUpstreams, parseResolvConf } from '../../../src/io/dns/upstreams.ts'
import { eventually as until } from '../../eventually.ts'
import { ask, startServer } from './harness.ts'

describe('resolv.conf', () => {
  for (const [why, text, addresses] of [
    [
      'comments behind and before',
      '# a\n;b\nnameserver 10.0.0.2 # c\nnameserver 10.0.0.3;d\n#nameserver 10.0.0.4\n',
      ['10.0.0.2', '10.0.0.3']
    ],
    [
      'options, search and domain',
      'search a.b c.d\ndomain e\noptions ndots:5 timeout:1 rotate\nsortlist 10.0.0.0\nnameserver 10.0.0.2',
      ['10.0.0.2']
    ],
    ['zones of IPv6', 'nameserver fe80::1%eth0\nnameserver fd00::2\n', ['fe80::1%eth0', 'fd00::2']],
    [
      'tabs, indents and the ends of lines of other systems',
      '\tnameserver\t10.0.0.2\r\n nameserver 10.0.0.3  \r\n',
      ['10.0.0.2', '10.0.0.3']
    ],
    ['a byte order mark', '\uFEFFnameserver 10.0.0.2\n', ['10.0.0.2']],
    [
      'what is no address',
      'nameserver\nnameserver localhost\nnameserver 10.0.0.1:0\nnameserver 10.0.0\nnameservers 10.0.0.9\nnameserver 010.0.0.1\n',
      []
    ],
    [
      'more than three',
      'nameserver 10.0.0.1\n'.repeat(2) + 'nameserver 10.0.0.2\nnameserver 10.0.0.3\n',
      ['10.0.0.1', '10.0.0.1', '10.0.0.2']
    ],
    ['the unspecified address', 'nameserver 0.0.0.0\nnameserver ::\n', ['127.0.0.1', '::1']],
    ['nothing', '', []]
  ] as const) {
    it(`is read with ${why}`, () => {
      assert.deepEqual(
        parseResolvConf(text).map(({ address }) => address),
        addresses
      )
    })
  }

  it('a server that is named twice is asked once', () => {
    assert.equal(findUpstreams(['10.0.0.2', '10.0.0.2:53', '[::1]:54', '[::1]:54']).upstreams.length, 2)
  })

  for (const path of ['/no/such/file', '/', '/dev/null', '/dev/zero', '/proc/self/mem']) {
    it(`${path} is a problem, not an error`, () => {
      const { upstreams, problems } = findUpstreams([path])
      assert.deepEqual([upstreams.length, problems.length], [0, 1])
      assert.ok(problems[0]?.includes(path))
    })
  }

  it('a pipe that no process writes to is a problem, and nothing waits for it', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'resolv-'))
    const path = join(folder, 'resolv.conf')
    try {
      execFileSync('mkfifo', [path])
      // In a process of its own with a deadline: a read that waits would hold this one.
      const program = `import { findUpstreams } from ${JSON.stringify(new URL('../../../src/io/dns/upstreams.ts', import.meta.url).href)}
        process.stdout.write(findUpstreams([${JSON.stringify(path)}]).problems.join())`
      const said = execFileSync(process.execPath, ['--input-type=module', '-e', program], {
        encoding: 'utf8',
        timeout: 15_000
      })
      assert.match(said, /not a regular file/)
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('that was missing or empty at start counts from when it has a server, and again after each change', async function () {
    const folder = await mkdtemp(join(tmpdir(), 'resolv-'))
    const path = join(folder, 'resolv.conf')
    let problems: readonly DnsProblem[] = []
    const { server, port } = await startServer({
      upstreams: [path],
      upstreamTimeoutMs: 100,
      onProblems: (now) => (problems = now)
    })
    const says = async (rcode: string) => (await ask(port, 'www.example.com', 'A')).rcode === rcode
    try {
      assert.ok(await says('REFUSED'))
      assert.deepEqual(
        problems.map(({ code }) => code),
        ['DNS_UPSTREAM']
      )
      await writeFile(path, '')
      assert.ok(await says('REFUSED'))
      // Nothing listens there on port 53: that it was asked shows in SERVFAIL.
      await writeFile(path, 'nameserver 127.0.0.77\n')
      await until(() => says('SERVFAIL'))
      assert.deepEqual(problems, [])
      await writeFile(join(folder, 'new'), 'nameserver 127.0.0.1 # other\n')
      await rename(join(folder, 'new'), path)
      await until(() => says('SERVFAIL'))
      await rm(path)
      await until(() => says('REFUSED'))
      assert.deepEqual(
        problems.map(({ code }) => code),
        ['DNS_UPSTREAM']
      )
      await writeFile(join(folder, 'elsewhere'), 'nameserver 127.0.0.77\n')
      await symlink('elsewhere', path)
      await until(() => says('SERVFAIL'))
    } finally {
      await server.stop()
      await rm(folder, { recursive: true })
    }
  })
})
