// Who is answered by an agent's DNS responder, what becomes of names outside the mesh, and what `meshctl dns` says of them.
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DnsAnswer } from '../../src/api/answers.ts'
import { wanAddress } from '../demo/site.ts'
import { eventually, slowness } from '../eventually.ts'
import type { Namespace } from '../lab/support/netns.ts'
import { inStep, raise, status, unite } from './harness.ts'

const NAME = 'web.shop.svc.cluster.west'
/** An upstream on the wide-area link that answers each question with 192.0.2.7, but NXDOMAIN to names that begin with "no". */
const UPSTREAM = `
  const socket = require('node:dgram').createSocket('udp4')
  socket.on('message', (message, from) => {
    const missing = message.subarray(13, 15).toString() === 'no'
    const end = message.indexOf(0, 12) + 5
    const answer = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7])
    const head = Buffer.from(message.subarray(0, end))
    head.writeUInt16BE(missing ? 0x8183 : 0x8180, 2)
    head.writeUInt16BE(missing ? 0 : 1, 6)
    head.writeUInt32BE(0, 8)
    socket.send(missing ? head : Buffer.concat([head, answer]), from.port, from.address)
  })
  socket.bind(53, process.argv[1], () => console.log('ready'))
`

describe('DNS of an agent', () => {
  const { world, site } = raise('dns', ['west', 'east'], { start: false })
  const resolvConf = () => join(world().folder, 'upstream.conf')
  let upstream: ChildProcess | undefined
  let stranger: Namespace

  before(async () => {
    writeFileSync(resolvConf(), `nameserver ${wanAddress('east')}\n`)
    upstream = site('east').gateway.spawn([process.execPath, '-e', UPSTREAM, wanAddress('east')], {
      stdio: ['ignore', 'pipe', 'inherit']
    })
    assert.ok(upstream.stdout !== null)
    await once(upstream.stdout, 'data', { signal: AbortSignal.timeout(10_000 * slowness()) })
    const { lab } = world()
    stranger = await lab.namespace('stranger')
    await lab.attach(await lab.namespace('wan'), 'wan', 'stranger', {
      namespace: stranger,
      device: 'eth0',
      cidr: '203.0.113.99/24'
    })
    await stranger.exec(['ip', 'route', 'add', '10.1.0.1', 'via', wanAddress('west')])
    await Promise.all([site('west').start('--dns-upstream', resolvConf()), site('east').start()])
    await unite(site('west'), site('east'))
    await Promise.all([inStep(site('west')), inStep(site('east'))])
  })
  after(() => upstream?.kill())

  const dig = async (from: Namespace, ...args: readonly string[]): Promise<string> =>
    (await from.exec(['dig', '+tries=1', '+time=3', ...args], { check: false })).stdout
  const west = (): Namespace => site('west').gateway
  const pod = (index: number): Namespace => site('west').pod(index).namespace

  it('a pod and the host itself are answered, names of the mesh and others', async () => {
    for (const from of [pod(0), west()]) {
      assert.match(await dig(from, '@10.1.0.1', NAME), /status: NOERROR[^]*10\.101\.0\.10/)
      assert.match(await dig(from, '@10.1.0.1', 'www.example.com'), /status: NOERROR[^]*192\.0\.2\.7/)
    }
  })

  for (const transport of ['+notcp', '+tcp']) {
    it(`a host beside the gateway is refused and counted (${transport})`, async () => {
      for (const name of [NAME, 'www.example.com'])
        assert.match(await dig(stranger, '@10.1.0.1', transport, name), /status: REFUSED/)
      await eventually(async () => {
        const { stdout } = await west().exec(['curl', '-s', 'http://127.0.0.1:9465/metrics'])
        const count = /rhizome_dns_queries_total\{zone="stranger",rcode="REFUSED"\} (\d+)/.exec(stdout)?.[1]
        return Number(count) >= 2
      })
    })
  }

  it('it is answered where the setting dns-allow has it', async () => {
    await site('west').stop('SIGTERM')
    await site('west').start('--dns-upstream', resolvConf(), '--dns-allow', '203.0.113.96/28,2001:db8::/64')
    await eventually(async () => (await dig(stranger, '@10.1.0.1', NAME)).includes('10.101.0.10'))
  })

  it('meshctl dns names the upstream, and fails where the name does not exist', async () => {
    const found = await site('west').ctl('dns', 'www.example.com')
    assert.match(found.stdout, /www\.example\.com +60 +A +192\.0\.2\.7/)
    assert.match(found.stderr, new RegExp(`forwarded to ${wanAddress('east')}:53`))
    assert.equal(found.exitCode, 0)
    const missing = await site('west').ctl('dns', 'no.example.com', '--json')
    const answer = JSON.parse(missing.stdout) as DnsAnswer
    assert.deepEqual(
      [missing.exitCode, answer.rcode, answer.forwarded, answer.upstream],
      [1, 'NXDOMAIN', true, `${wanAddress('east')}:53`]
    )
  })

  it('without a route to the upstream names outside fail, the agent lives, and names of the mesh are answered', async () => {
    writeFileSync(resolvConf(), 'nameserver 198.51.100.1\nnameserver 2001:db8::1\n')
    await eventually(async () => (await dig(pod(0), '@10.1.0.1', 'www.example.com')).includes('SERVFAIL'))
    assert.match(await dig(pod(0), '@10.1.0.1', NAME), /status: NOERROR/)
    assert.equal((await status(site('west'))).state, 'running')
    const failed = await site('west').ctl('dns', 'www.example.com')
    assert.equal(failed.exitCode, 1)
    assert.match(failed.stderr, /no upstream server answered/)
  })

  it('an emptied resolv.conf is a fault until it names a server again', async () => {
    writeFileSync(resolvConf(), '# nothing\n')
    await eventually(async () =>
      (await status(site('west'))).warnings.some((text) => text.includes('has no server'))
    )
    assert.match(await dig(pod(0), '@10.1.0.1', 'www.example.com'), /status: REFUSED/)
    writeFileSync(resolvConf(), `nameserver ${wanAddress('east')}\n`)
    await eventually(async () => (await dig(pod(0), '@10.1.0.1', 'www.example.com')).includes('192.0.2.7'))
    await eventually(
      async () => !(await status(site('west'))).warnings.some((text) => text.includes('has no server'))
    )
  })
})
