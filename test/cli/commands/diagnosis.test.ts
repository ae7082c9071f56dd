import assert from 'node:assert/strict'
import { meshctl, progressOf, startFakeMeshd, type FakeMeshd } from '../fake-meshd.ts'
import * as samples from '../samples.ts'

describe('meshctl why', () => {
  let fake: FakeMeshd
  before(async () => {
    fake = await startFakeMeshd()
  })
  after(() => fake.stop())
  const cli = (...args: readonly string[]) => meshctl(['--socket', fake.socket, ...args])

  it('says first where the connection ends, then each stop with its fix, and exits with 1', async () => {
    fake.answer('/v1/why', samples.WHY)
    const { code, stdout } = await cli(
      'why',
      'web.shop.svc.cluster.east:80',
      '--from',
      '10.1.0.7',
      '--no-connect'
    )
    assert.equal(code, 1)
    assert.deepEqual(stdout.replaceAll(/ +/g, ' ').split('\n'), [
      'It ends at the stop tunnel: the tunnel to east-1 is down',
      'fix: open UDP port 51820',
      'STOP STATE FOUND',
      'name ok web.shop.svc.cluster.east is 10.102.0.10',
      'prefix ok 10.102.0.10 is in the service prefix 10.102.0.0/16 of cluster east',
      'tunnel fault the tunnel to east-1 is down; fix: open UDP port 51820',
      ''
    ])
    assert.equal(
      fake.requests.at(-1)?.url,
      '/v1/why?target=web.shop.svc.cluster.east%3A80&connect=no&from=10.1.0.7'
    )
  })

  it('puts each way below its address where there are several', async () => {
    const [way] = samples.WHY.ways
    fake.answer('/v1/why', {
      verdict: 'partly',
      stops: samples.WHY.stops,
      ways: [
        way,
        {
          address: '10.3.0.1',
          stops: [{ stop: 'route', state: 'ok', text: 'the route leads into rhizome0' }]
        }
      ]
    })
    const { code, stdout } = await cli('why', 'web.shop.svc.cluster.all')
    assert.equal(code, 0)
    assert.match(
      stdout,
      /^It works to some of 2 addresses: the tunnel to east-1 is down\nfix: open UDP port 51820\n/
    )
    assert.match(stdout, /\n10\.102\.0\.10\nprefix .*\n10\.3\.0\.1\nroute +ok/s)
  })

  it('says only that it works where a connection was accepted', async () => {
    const way = (state: string) => ({
      verdict: 'works',
      stops: [],
      ways: [{ address: '10.2.0.9', stops: [{ stop: 'connection', state, text: 'so it was' }] }]
    })
    fake.answer('/v1/why', way('note'))
    assert.match(
      (await cli('why', '10.2.0.9:53/udp')).stdout,
      /^No fault was found .*no connection was tried\n/
    )
    fake.answer('/v1/why', way('ok'))
    assert.match((await cli('why', '10.2.0.9:53')).stdout, /^It works\n/)
  })

  it('passes on what meshd refuses', async () => {
    fake.fail('/v1/why', 400, {
      code: 'BAD_ARGUMENT',
      message: 'target: "a b" is no name',
      fix: 'write it as in web:80'
    })
    const { code, stderr } = await cli('why', 'a b')
    assert.equal(code, 2)
    assert.match(stderr, /target: "a b" is no name/)
  })
})

describe('meshctl doctor', () => {
  let fake: FakeMeshd
  before(async () => {
    fake = await startFakeMeshd()
  })
  after(() => fake.stop())

  it('counts what it found, lists it with each fix, and exits with 1 where something does not work', async () => {
    fake.answer('/v1/doctor', samples.DOCTOR)
    const { code, stdout } = await meshctl(['--socket', fake.socket, 'doctor'])
    assert.equal(code, 1)
    assert.deepEqual(stdout.replaceAll(/ +/g, ' ').split('\n'), [
      '1 fault, 0 warnings',
      'CHECK STATE SUBJECT FOUND',
      'tunnel fault east east-1 the tunnel is down; fix: let UDP 192.0.2.9:51820 in',
      'disk ok /var/lib/rhizome 900 MB are free',
      ''
    ])
  })

  it('exits with 0 where all is well', async () => {
    fake.answer('/v1/doctor', { verdict: 'ok', findings: samples.DOCTOR.findings.slice(1) })
    const { code, stdout } = await meshctl(['--socket', fake.socket, 'doctor'])
    assert.equal(code, 0)
    assert.match(stdout, /^All is well\n/)
  })
})

describe('meshctl ping', () => {
  let fake: FakeMeshd
  before(async () => {
    fake = await startFakeMeshd()
  })
  after(() => fake.stop())
  const cli = (...args: readonly string[]) => meshctl(['--socket', fake.socket, ...args])

  it('says what came back, why a tunnel is not up, and a row for each gateway', async () => {
    fake.answer('/v1/ping', samples.PING)
    const { code, stdout } = await cli('ping', 'east', '-c', '4', '-i', '0.05')
    assert.equal(code, 0)
    assert.deepEqual(stdout.replaceAll(/ +/g, ' ').split('\n'), [
      '3 of 8 packets to east came back',
      'the tunnel to east-2 is down: no answer through the tunnel for 12 s; fix: let UDP 51820 in',
      'GATEWAY TUNNEL PATH SENT RECEIVED LOSS MIN AVG MAX MDEV',
      'east-1 up direct 192.0.2.9:51820 4 3 25% 1.25 5.26 12.0 4.82',
      'east-2 down dial-in 4 0 100% - - - -',
      ''
    ])
    assert.equal(fake.requests.at(-1)?.url, '/v1/ping?cluster=east&count=4&intervalMs=50')
  })

  it('shows each round trip with -o wide, and the gateways that answered with -o name', async () => {
    fake.answer('/v1/ping', samples.PING)
    const { stdout } = await cli('ping', 'east', '-o', 'wide')
    assert.match(stdout, /10\.2\.0\.1 +1\.25 lost 12\.0 2\.50\n/)
    assert.equal((await cli('ping', 'east', '-o', 'name')).stdout, 'east-1\n')
  })

  it('exits with 1 where nothing came back, and where there is no gateway', async () => {
    const [, silent] = samples.PING.gateways
    fake.answer('/v1/ping', { verdict: 'silent', gateways: [silent] })
    const { code, stdout } = await cli('ping', 'east')
    assert.equal(code, 1)
    assert.match(
      stdout,
      /^None of 4 packets to east came back\nthe tunnel to east-2 is down: .*; fix: let UDP/
    )
    fake.answer('/v1/ping', { verdict: 'silent', gateways: [] })
    const bare = await cli('ping', 'east')
    assert.equal(bare.code, 1)
    assert.match(bare.stdout, /announces no gateway/)
  })

  it('refuses a wrong count, interval or name before it asks', async () => {
    const before = fake.requests.length
    for (const [args, text] of [
      [['east', '-c', '0'], /--count: "0" is not a number from 1 to 100/],
      [['east', '-c', '101'], /--count/],
      [['east', '-i', '0.01'], /--interval: "0.01" is not a number of seconds from 0.05 to 5/],
      [['east', '-i', 'x'], /--interval/],
      [['East'], /<cluster>/]
    ] as const) {
      const { code, stderr } = await cli('ping', ...args)
      assert.equal(code, 2, stderr)
      assert.match(stderr, text)
    }
    assert.equal(fake.requests.length, before)
  })

  it('says what it does after a second', async () => {
    fake.handle('/v1/ping', () => undefined)
    const run = await cli('--timeout', '2s', 'ping', 'east', '-c', '100')
    assert.equal(run.code, 6)
    assert.match(progressOf(run), /^sending 100 packets to east \(at most 2s\)\n$/)
  })
})

describe('meshctl drift', () => {
  let fake: FakeMeshd
  before(async () => {
    fake = await startFakeMeshd()
  })
  after(() => fake.stop())
  const cli = (...args: readonly string[]) => meshctl(['--socket', fake.socket, 'drift', ...args])
  const finding = (state: string) => ({
    check: 'drift',
    state,
    subject: 'routes',
    text: 'the route to 10.2.0.0/16 is missing',
    fix: 'stop it'
  })

  it('lists the differences that last, and exits with 1', async () => {
    fake.answer('/v1/doctor', { verdict: 'fault', findings: [finding('fault'), finding('warning')] })
    const { code, stdout } = await cli()
    assert.equal(code, 1)
    assert.deepEqual(stdout.replaceAll(/ +/g, ' ').split('\n'), [
      '1 difference that lasts',
      'PART STATE DIFFERENCE',
      'routes lasts the route to 10.2.0.0/16 is missing; fix: stop it',
      'routes mended the route to 10.2.0.0/16 is missing; fix: stop it',
      ''
    ])
    assert.equal(fake.requests.at(-1)?.url, '/v1/doctor?check=drift')
    assert.equal((await cli('-o', 'name')).stdout, 'routes\n')
  })

  it('exits with 0 where meshd has mended all, and where nothing differs', async () => {
    fake.answer('/v1/doctor', { verdict: 'warning', findings: [finding('warning')] })
    const mended = await cli()
    assert.equal(mended.code, 0)
    assert.match(mended.stdout, /^1 difference, mended by meshd\n/)
    fake.answer('/v1/doctor', { verdict: 'ok', findings: [finding('ok')] })
    assert.deepEqual(await cli(), {
      code: 0,
      stdout: 'No difference: the host has what it should have\n',
      stderr: ''
    })
  })
})

describe('meshctl verify', () => {
  let fake: FakeMeshd
  before(async () => {
    fake = await startFakeMeshd()
    fake.answer('/v1/peers', samples.PEERS)
    fake.answer('/v1/services', samples.SERVICES)
  })
  after(() => fake.stop())
  const cli = (...args: readonly string[]) => meshctl(['--socket', fake.socket, 'verify', ...args])
  const works = {
    verdict: 'works',
    stops: [],
    ways: [{ address: '10.102.0.10', stops: [{ stop: 'connection', state: 'ok', text: 'it was accepted' }] }]
  }

  it('tests the tunnel and a service of each other cluster, and exits with 0', async () => {
    fake.answer('/v1/ping', {
      verdict: 'answered',
      gateways: [{ ...samples.PING.gateways[0], lossPercent: 0 }]
    })
    fake.answer('/v1/why', works)
    const { code, stdout } = await cli('-s', '1')
    assert.equal(code, 0)
    assert.match(stdout, /^No fault in 2 tests of 1 cluster\n/)
    assert.match(stdout, /^east +tunnel +ok +\S+ +all packets to 1 gateway came back, shortest round trip /m)
    assert.match(stdout, /^east +service +ok +web\.shop\.svc\.cluster\.east:80 +it was accepted$/m)
    assert.ok(fake.requests.some(({ url }) => url === '/v1/ping?cluster=east&count=10&intervalMs=100'))
    assert.equal((await cli('-o', 'name')).stdout, 'east\n')
    const only = await cli('-s', '0', '--json')
    assert.equal(JSON.parse(only.stdout).results.length, 1)
  })

  it('asks for TCP, and is no success where no connection was made; says that a tunnel goes over TCP', async () => {
    fake.answer('/v1/ping', {
      verdict: 'answered',
      gateways: [{ ...samples.PING.gateways[0], lossPercent: 0, path: 'tcp' }]
    })
    const untried = [{ stop: 'connection', state: 'note', text: 'nothing was tried' }]
    fake.answer('/v1/why', { ...works, ways: [{ address: '10.102.0.10', stops: untried }] })
    const { stdout } = await cli('-s', '1')
    assert.match(stdout, /^east +tunnel +ok .*; over TCP, since UDP gets no answer: \S+$/m)
    assert.match(stdout, /^east +service +warning +web\.shop\.svc\.cluster\.east:80 +nothing was tried$/m)
    assert.ok(fake.requests.some(({ url }) => url?.includes('target=web.shop.svc.cluster.east%3A80%2Ftcp')))
  })

  it('exits with 1 where a test fails, and goes on with the others', async () => {
    fake.fail('/v1/ping', 409, { code: 'TOO_MANY_PINGS', message: '4 pings run now', fix: 'wait' })
    fake.answer('/v1/why', samples.WHY)
    const { code, stdout } = await cli('east', '-s', '1')
    assert.equal(code, 1)
    assert.deepEqual(
      stdout
        .replaceAll(/ +/g, ' ')
        .split('\n')
        .filter((line) => !line.startsWith('CLUSTER')),
      [
        '2 faults in 2 tests of 1 cluster',
        'east tunnel fault east 4 pings run now; fix: wait',
        'east service fault web.shop.svc.cluster.east:80 it ends at the stop tunnel: the tunnel to east-1 is down; fix: open UDP port 51820',
        ''
      ]
    )
  })

  it('names a cluster that is not there, the own one, and a wrong number', async () => {
    for (const [args, words] of [
      [['north'], /^error: no cluster "north" is in this mesh\n {2}fix: `meshctl peers`/],
      [['west'], /^error: west is the cluster of this agent/],
      [['all'], /^error: <cluster>: "all" is reserved/],
      [['-s', '101'], /^error: --services: "101" is not a number from 0 to 100/]
    ] as const) {
      const { code, stderr } = await cli(...args)
      assert.notEqual(code, 0)
      assert.match(stderr, words)
    }
  })

  it('is no success where there is nothing to test', async () => {
    fake.answer('/v1/peers', {
      ...samples.PEERS,
      peers: samples.PEERS.peers.filter(({ state }) => state === 'self')
    })
    const { code, stdout, stderr } = await cli()
    assert.equal(code, 1)
    assert.match(stdout, /^Nothing was tested: this mesh has no other cluster\n$/)
    assert.match(stderr, /meshctl invite/)
  })
})
