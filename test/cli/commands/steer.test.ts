// The commands that change something: init, invite, join, leave.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { API_VERSION } from '../../../src/api/answers.ts'
import {
  meshctl,
  startFakeMeshd,
  type FakeMeshd,
  type Run,
  type RunOptions,
  progressOf
} from '../fake-meshd.ts'
import * as samples from '../samples.ts'

describe('meshctl init, invite, join, leave', () => {
  let fake: FakeMeshd

  beforeEach(async () => {
    fake = await startFakeMeshd()
    fake.answer('/v1/init', { ...samples.JOINED, cluster: 'west', members: ['west'] })
    fake.answer('/v1/invite', samples.INVITE)
    fake.answer('/v1/join', samples.JOINED)
    fake.answer('/v1/leave', { cluster: 'east' })
    fake.answer('/v1/status', samples.STATUS)
  })
  afterEach(() => fake.stop())

  const cli = (args: string[], options?: RunOptions): Promise<Run> =>
    meshctl(['--socket', fake.socket, ...args], options)

  it('init --roots says how many root keys there are and how many sign', async () => {
    const line = 'init --cluster west --pod-cidr 10.1.0.0/16 --service-cidr 10.101.0.0/16 --roots'.split(' ')
    assert.equal((await cli([...line, '2of3'])).code, 0)
    const { body } = fake.requests.at(-1) ?? assert.fail()
    assert.deepEqual((body as { roots?: unknown }).roots, { k: 2, number: 3 })
    for (const wrong of ['3of2', '0of1', '1of6', '2', 'twoofthree', '2of3x'])
      assert.match(
        (await cli([...line, wrong])).stderr,
        /^error: --roots: .*\n {2}fix: write it as in 2of3/,
        wrong
      )
  })

  it('init sends lists and repeated flags as one list, without doubles', async () => {
    const line = 'init --cluster west --pod-cidr 10.1.0.0/16,fd00:1::/48 --pod-cidr 10.1.0.0/16'
    const run = await cli(`${line} --service-cidr 10.101.0.0/16`.split(' '))
    assert.equal(run.code, 0)
    assert.deepEqual(fake.requests, [
      {
        method: 'POST',
        url: '/v1/init',
        body: {
          cluster: 'west',
          podCidrs: ['10.1.0.0/16', 'fd00:1::/48'],
          serviceCidrs: ['10.101.0.0/16']
        }
      }
    ])
    assert.match(run.stdout, /^Made a new mesh with cluster west\.\n\nCluster +west\nMesh +bafyreimesh\n/)
    assert.match(run.stderr, /meshctl invite <cluster>/)
  })

  it('invite prints the token alone on stdout and the rest on stderr', async () => {
    const run = await cli('invite east --expires 1h30m --bootstrap west,edge --bootstrap west'.split(' '))
    assert.equal(run.stdout, 'rhz1.dG9rZW4\n')
    assert.equal(
      run.stderr,
      `
Token for cluster east. Keep it secret, like a password.

Valid until   2026-11-24 04:12:00 UTC (1h30m)
Pods          10.2.0.0/16
Services      10.102.0.0/16
Bootstrap     /ip4/198.51.100.1/tcp/7946/p2p/12D3KooWwest

On a gateway host of east, with meshd running:
  meshctl join --token-file <file>     (or give it on stdin)
`
    )
    assert.deepEqual(fake.requests[0]?.body, {
      cluster: 'east',
      podCidrs: [],
      serviceCidrs: [],
      namespaces: [],
      ttlSeconds: 5400,
      bootstrap: ['west', 'edge']
    })
  })

  it('invite says which open invite it takes back', async () => {
    const takesBack = [{ cluster: 'east', made: '2026-11-23T02:42:00.000Z' }]
    fake.answer('/v1/invite', { ...samples.INVITE, takesBack })
    const { stderr } = await cli(['invite', 'east'])
    assert.match(
      stderr,
      /^Takes back +the open invite of east made at 2026-11-23 02:42:00 UTC: its token lets no cluster in any more$/m
    )
  })

  it('invite --replace names the cluster whose place is taken: that of the invited name, or another one', async () => {
    fake.answer('/v1/invite', { ...samples.INVITE, replaces: 'east' })
    const run = await cli('invite east --replace'.split(' '))
    assert.match(run.stderr, /^Replaces +east$/m)
    assert.match(run.stderr, /On a host with an empty state folder/)
    await cli('invite orient --replace east --force'.split(' '))
    const bodies = fake.requests.map(({ body }) => body as Record<string, unknown>)
    assert.deepEqual(
      bodies.map(({ cluster, replace, force }) => [cluster, replace, force]),
      [
        ['east', 'east', false],
        ['orient', 'east', true]
      ]
    )
    const { code, stderr } = await cli('invite east --force'.split(' '))
    assert.equal(code, 2)
    assert.match(stderr, /^error: --force: it is for --replace only/)
  })

  it('init and invite show warnings of the agent, and have them in the answer for programs', async () => {
    const warnings = ['cluster.dev is also a name of the public DNS']
    fake.answer('/v1/init', { ...samples.JOINED, warnings })
    fake.answer('/v1/invite', { ...samples.INVITE, warnings })
    assert.match((await cli(['init', '--cluster', 'dev'])).stdout, /Warning +cluster\.dev is also a name/)
    const run = await cli(['invite', 'dev'])
    assert.equal(run.stdout, 'rhz1.dG9rZW4\n')
    assert.match(run.stderr, /Warning +cluster\.dev is also a name of the public DNS/)
    const answer = JSON.parse((await cli(['invite', 'dev', '--json'])).stdout) as { warnings: string[] }
    assert.deepEqual(answer.warnings, warnings)
  })

  it('join shows warnings of the agent as notes on stderr, and has them in the answer for programs', async () => {
    const warnings = ['the token was valid until 2026-01-01T00:00:00.000Z, by the clock of this host']
    fake.answer('/v1/join', { ...samples.JOINED, warnings })
    const run = await cli(['join', '-'], { stdin: 'rhz1.abc' })
    assert.match(run.stderr, /^note: the token was valid until 2026-01-01T00:00:00\.000Z, by the clock/m)
    assert.doesNotMatch(run.stdout, /by the clock/)
    const answer = JSON.parse((await cli(['join', '-', '--json'], { stdin: 'rhz1.abc' })).stdout) as object
    assert.partialDeepStrictEqual(answer, { warnings })
  })

  it('invite lasts a day unless told', async () => {
    const run = await cli(['invite', 'east', '--json'])
    assert.deepEqual(JSON.parse(run.stdout), { apiVersion: API_VERSION, ...samples.INVITE })
    assert.partialDeepStrictEqual(fake.requests[0], { body: { ttlSeconds: 86_400 } })
  })

  it('invite --gateway prints a token for one more gateway alone on stdout, and takes nothing of a cluster', async () => {
    fake.answer('/v1/invite/gateway', samples.GATEWAY_INVITE)
    fake.answer('/v1/invite/gateway/cancel', { apiVersion: API_VERSION, cancelled: 2 })
    const run = await cli('invite --gateway --expires 1h'.split(' '))
    assert.equal(run.code, 0, run.stderr)
    assert.equal(run.stdout, `${samples.GATEWAY_INVITE.token}\n`)
    assert.match(run.stderr, /one more gateway of cluster edge\. Keep it secret/)
    assert.deepEqual(
      [fake.requests[0]?.url, fake.requests[0]?.body],
      ['/v1/invite/gateway', { ttlSeconds: 3600 }]
    )
    const json = JSON.parse((await cli(['invite', '--gateway', '--json'])).stdout) as { cluster: string }
    assert.equal(json.cluster, 'edge')
    const cancelled = await cli(['invite', 'cancel', '--gateway'])
    assert.equal(cancelled.stdout, 'Cancelled 2 invites of gateways.\n')
    for (const [args, field] of [
      [['invite', 'east', '--gateway'], 'cluster'],
      [['invite', '--gateway', '--pod-cidr', '10.1.0.0/16'], '--pod-cidr'],
      [['invite', 'cancel', 'east', '--gateway'], 'cluster'],
      [['invite', 'cancel'], 'cluster']
    ] as const) {
      const wrong = await cli([...args])
      assert.equal(wrong.code, 2, args.join(' '))
      assert.match(wrong.stderr, new RegExp(`^error: ${field}: .*\n {2}fix: `))
    }
  })

  it('join takes the token from the argument, and says who can see it there', async () => {
    const run = await cli(['join', 'rhz1.abc'])
    assert.equal(run.code, 0)
    assert.deepEqual(fake.requests[0]?.body, { token: 'rhz1.abc' })
    assert.match(run.stderr, /^note: a token on the command line shows in the process list/)
    assert.match(run.stdout, /^Cluster east has joined\.\n[^]*\nMembers +west\n$/)
  })

  it('join takes the token from a file, stdin or the environment, line breaks undone', async () => {
    const file = join(fake.folder, 'east.token')
    writeFileSync(file, 'rhz1.\n  abc\r\n')
    const ways: readonly [string[], RunOptions][] = [
      [['join', '--token-file', file], {}],
      [['join', '--token-file', '-'], { stdin: 'rhz1.abc\n' }],
      [['join', '-'], { stdin: 'rhz1.\nabc\n' }],
      [['join'], { stdin: 'rhz1.abc\n' }],
      [['join'], { env: { RHIZOME_TOKEN: 'rhz1.abc' }, stdin: 'rhz1.other' }]
    ]
    for (const [args, options] of ways) {
      const run = await cli(args, options)
      assert.equal(run.code, 0, run.stderr)
      assert.doesNotMatch(run.stderr, /process list/)
      assert.deepEqual(fake.requests.at(-1)?.body, { token: 'rhz1.abc' })
    }
  })

  it('join refuses two tokens, no token, an unreadable file and what cannot be a token', async () => {
    const binary = join(fake.folder, 'binary')
    writeFileSync(binary, Buffer.from([1, 2, 255]))
    const long = join(fake.folder, 'long')
    writeFileSync(long, 'a'.repeat(40_000))
    const cases: readonly [string[], RegExp][] = [
      [
        ['join', 'rhz1.abc', '--token-file', binary],
        /^error: --token-file: .*\n  fix: give only one of the two$/m
      ],
      [['join'], /^error: token on stdin: the text is empty\n  fix: .*meshctl invite/],
      [
        ['join', '--token-file', '/none/such'],
        /^error: --token-file: cannot read \/none\/such: .*\n  fix: check the path/
      ],
      [['join', '--token-file', binary], /^error: --token-file .*: this is not a token/],
      [['join', '--token-file', long], /^error: --token-file .*: the text is longer than 32768 bytes/]
    ]
    for (const [args, message] of cases) {
      const run = await cli(args)
      assert.equal(run.code, 2)
      assert.match(run.stderr, message)
    }
    assert.deepEqual(fake.requests, [])
  })

  it('join never shows a token that is refused', async () => {
    const run = await cli(['join', '--token-file', '-'], { stdin: 'rhz1.SECRET\u0007' })
    assert.equal(run.code, 2)
    assert.doesNotMatch(run.stdout + run.stderr, /SECRET/)
  })

  it('says what it waits for once a second has passed', async () => {
    fake.handle('/v1/join', (response) => {
      setTimeout(() => response.end(JSON.stringify({ apiVersion: API_VERSION, ...samples.JOINED })), 1500)
    })
    const run = await cli(['join'], { stdin: 'rhz1.abc' })
    assert.equal(run.code, 0)
    assert.match(progressOf(run), /^waiting for a member of the mesh to accept this cluster \(at most 1m\)\n/)
  })

  it('leave asks on a terminal only; elsewhere it wants --yes', async () => {
    const refused = await cli(['leave'])
    assert.equal(refused.code, 2)
    assert.equal(
      refused.stderr,
      'error: leave: there is no terminal to ask on\n  fix: add --yes when you are sure\n'
    )
    assert.equal(fake.requests.length, 0)
    const left = await cli(['leave', '--yes'])
    assert.equal(left.stdout, 'Cluster east has left the mesh.\n')
    assert.equal(fake.requests.at(-1)?.url, '/v1/leave')
  })

  it('leave says when it was a token that no member had answered', async () => {
    fake.answer('/v1/leave', { cluster: 'east', pending: true })
    const left = await cli(['leave', '--yes'])
    assert.equal(left.stdout, 'The token of cluster east, which no member had answered, is discarded.\n')
  })

  it('leave of the last cluster names no administrator, since there is none any more', async () => {
    fake.answer('/v1/leave', { cluster: 'east', endedMesh: true })
    const left = await cli(['leave', '--yes'])
    assert.match(left.stderr, /^It was the last cluster, so the mesh has ended\..*meshctl init/)
    assert.doesNotMatch(left.stderr, /administrator/)
  })

  it('leave names the command to run elsewhere when no member could be told', async () => {
    fake.answer('/v1/leave', { cluster: 'east', repair: 'meshctl remove east' })
    const left = await cli(['leave', '--yes'])
    assert.equal(left.code, 0)
    assert.match(
      left.stderr,
      /^No other member could be told\. Run meshctl remove east on an administrator’s agent; until then /m
    )
  })

  it('cert renew says the generation, and what still counts', async () => {
    fake.answer('/v1/cert/renew', { cluster: 'east', before: 3, generation: 4, neighbours: 2 })
    const run = await cli(['cert', 'renew'])
    assert.equal(run.stdout, 'The certificates of cluster east are of generation 4 now (before: 3).\n')
    assert.match(run.stderr, /A certificate of generation 3 counts until the next renewal/)
    await cli(['cert', 'renew', '--force'])
    assert.deepEqual(
      fake.requests.map(({ body }) => body),
      [{ force: false }, { force: true }]
    )
    fake.answer('/v1/cert/renew', { cluster: 'east', before: 3, generation: 4, neighbours: 0 })
    assert.match((await cli(['cert', 'renew'])).stderr, /No member is connected now/)
  })

  it('key rotate prints the new key and the one before, and says when the device has not taken it', async () => {
    fake.answer('/v1/key/rotate', { before: 'b2xk', wireguardKey: 'bmV3' })
    const rotated = await cli(['key', 'rotate'])
    assert.equal(rotated.stdout, 'The WireGuard key is now bmV3 (before: b2xk).\n')
    assert.equal(fake.requests.at(-1)?.url, '/v1/key/rotate')
    const json = await cli(['key', 'rotate', '-o', 'json'])
    assert.equal((JSON.parse(json.stdout) as { wireguardKey: string }).wireguardKey, 'bmV3')
    fake.answer('/v1/key/rotate', { before: 'b2xk', wireguardKey: 'bmV3', pending: true })
    const pending = await cli(['key', 'rotate'])
    assert.match(pending.stdout, /^The new WireGuard key bmV3 is not in use yet/)
    assert.match(pending.stderr, /published as soon as the device has it/)
    assert.equal((await cli(['key', 'forge'])).code, 2)
  })

  it('key rotate --cluster prints the beginnings of both keys, and who has to join anew', async () => {
    const [before, clusterKey] = ['a'.repeat(64), 'b'.repeat(64)]
    fake.answer('/v1/key/rotate/cluster', { cluster: 'west', before, clusterKey, neighbours: 2 })
    const rotated = await cli(['key', 'rotate', '--cluster'])
    assert.equal(
      rotated.stdout,
      `The key of cluster west is now ${'b'.repeat(16)} (before: ${'a'.repeat(16)}).\n`
    )
    assert.match(rotated.stderr, /2 connected members were told/)
    const answer = { cluster: 'west', before, clusterKey, neighbours: 0, ended: ['12D3KooW'] }
    fake.answer('/v1/key/rotate/cluster', answer)
    const forced = await cli(['key', 'rotate', '--cluster', '--force'])
    assert.deepEqual(fake.requests.at(-1)?.body, { force: true, keep: [] })
    assert.match(forced.stderr, /No member is connected now[^]*The agent 12D3KooW has the old key only/)
    assert.match((await cli(['key', 'rotate', '--force'])).stderr, /--force: it is for --cluster only/)
  })
})
