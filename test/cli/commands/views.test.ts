// What people see: the exact text of every view, and the exact answer with --json.
import assert from 'node:assert/strict'
import { parse } from 'yaml'
import { API_VERSION } from '../../../src/api/answers.ts'
import { meshctl, startFakeMeshd, type FakeMeshd, type Run } from '../fake-meshd.ts'
import * as samples from '../samples.ts'

const OUTSIDE = { name: 'example.com', type: 'A', ttl: 60, data: '192.0.2.7' }

describe('meshctl views', () => {
  let fake: FakeMeshd

  before(async () => {
    fake = await startFakeMeshd()
  })
  after(() => fake.stop())

  const cli = (...args: string[]): Promise<Run> => meshctl(['--socket', fake.socket, ...args])
  const shows = async (text: string, ...args: string[]): Promise<void> => {
    const run = await cli(...args)
    assert.deepEqual(run, { code: 0, stdout: `${text}\n`, stderr: '' })
  }

  it('peers: shows the own cluster first, and no column that nobody needs', async () => {
    fake.answer('/v1/peers', samples.PEERS)
    await shows(
      `
CLUSTER   STATE   PATH     ENDPOINT            RTT     HANDSHAKE   RX/TX               CIDRS                       SVCS   LAG
west      self    -        -                   -       -           -                   10.1.0.0/16,10.101.0.0/16   8      -
east      up      direct   203.0.113.7:51820   0.4ms   12s         1.2 MiB / 340 KiB   10.2.0.0/16,10.102.0.0/16   8      0
`.trim(),
      'peers'
    )
  })

  it('peers: shows REASON and CONTROL as soon as one row has something to say', async () => {
    fake.answer('/v1/peers', samples.PEERS_IN_TROUBLE)
    await shows(
      `
CLUSTER   STATE   PATH      ENDPOINT   RTT   HANDSHAKE   RX/TX         CIDRS         SVCS   LAG   CONTROL   REASON
edge      down    dial-in   -          -     4m12s       0 B / 148 B   10.3.0.0/16   0      17    lost      no handshake for 4m
`.trim(),
      'peers',
      '--cluster',
      'edge'
    )
  })

  it('peers: shows a tunnel that is up and had two outages as flapping, with the count', async () => {
    const reason = '5 changes between up and down in the last 10 min'
    const peers = (changes: number) =>
      samples.PEERS.peers.map((peer) => (peer.cluster === 'east' ? { ...peer, changes, reason } : peer))
    fake.answer('/v1/peers', { ...samples.PEERS, peers: peers(5) })
    assert.match((await cli('peers')).stdout, /^east +flapping .* 5 changes between up and down/m)
    fake.answer('/v1/peers', { ...samples.PEERS, peers: peers(2) })
    assert.match((await cli('peers')).stdout, /^east +up /m)
  })

  it('peers: says in its first lines what is wrong, unless a script asks for rows only', async () => {
    fake.answer('/v1/peers', { ...samples.PEERS, health: samples.ILL })
    const { stdout } = await cli('peers')
    assert.match(
      stdout,
      /^# critical, for \d+m\d*s?: no tunnel .*\n#   fix: open UDP port 51820 between the gateways\nCLUSTER /
    )
    const rows = await cli('peers', '--no-headers')
    assert.match(rows.stdout, /^west +self .*\neast +up .*\n$/)
  })

  it('-o name prints what other commands take, a line each', async () => {
    fake.answer('/v1/peers', { ...samples.PEERS, health: samples.ILL })
    fake.answer('/v1/services', samples.SERVICES)
    fake.answer('/v1/routes', samples.ROUTES)
    await shows('west\neast', 'peers', '-o', 'name')
    await shows('10.2.0.0/16\n10.3.0.0/16\n10.102.0.0/16', 'routes', '-o', 'name')
    await shows(
      'web.shop.svc.cluster.east\ndb.data.svc.cluster.east\nmail.shop.svc.cluster.west',
      'services',
      '-o',
      'name'
    )
    fake.answer('/v1/dns', samples.ZONES)
    await shows('cluster.all\ncluster.edge', 'dns', '-o', 'name')
    fake.answer('/v1/why', { ...samples.WHY, verdict: 'partly' })
    await shows('tunnel', 'why', '10.102.0.10', '-o', 'name')
    fake.answer('/v1/doctor', { ...samples.DOCTOR, verdict: 'warning' })
    await shows('tunnel', 'doctor', '-o', 'name')
    fake.answer('/v1/dns', samples.RECORDS)
    fake.answer('/v1/events', samples.EVENTS)
    await shows('12D3KooWeast\n12D3KooWeast\n12D3KooWstranger', 'events', '-o', 'name')
    await shows('web.shop.svc.cluster.east', 'dns', 'web.shop.svc.cluster.east', '-o', 'name')
    fake.answer('/v1/dns', { rcode: 'NXDOMAIN', records: [] })
    const unknown = await cli('dns', 'no.shop.svc.cluster.east', '-o', 'name')
    assert.deepEqual(
      [unknown.code, unknown.stdout, unknown.stderr],
      [1, '', 'NXDOMAIN: no.shop.svc.cluster.east does not exist\n']
    )
  })

  it('-o name is refused by commands without a table, before they do anything', async () => {
    const asked = fake.requests.length
    for (const args of [
      ['status'],
      ['plan'],
      ['version'],
      ['leave', '--yes'],
      ['key', 'rotate'],
      ['invite', 'east'],
      ['init', '--cluster', 'west'],
      ['join', 'rzm2_x'],
      ['install', '--dry-run', '--no-token'],
      ['uninstall', '--yes']
    ]) {
      const run = await cli(...args, '-o', 'name')
      assert.deepEqual([run.code, run.stdout], [2, ''], args.join(' '))
      assert.match(
        run.stderr,
        /^error: -o name: `meshctl [\w ]+` prints no table\n {2}fix: use -o json or -o yaml; peers, services, routes, dns, events, trust, admin list and invite list take -o name\n$/
      )
    }
    assert.equal(fake.requests.length, asked)
  })

  it('-o yaml has the values of -o json', async () => {
    fake.answer('/v1/services', samples.SERVICES)
    const yaml = parse((await cli('services', '-o', 'yaml')).stdout)
    assert.deepEqual(yaml, JSON.parse((await cli('services', '-o', 'json')).stdout))
    assert.deepEqual(yaml.services[0].ports[0], { name: 'http', port: 80, protocol: 'TCP' })
  })

  it('status --wait ends when all is well, and at its deadline says what is not', async () => {
    fake.answer('/v1/status', { ...samples.STATUS, health: samples.ILL })
    const late = await cli('status', '--wait', '--timeout', '1s')
    assert.equal(late.code, 6, late.stderr)
    assert.match(
      late.stderr,
      /error: --wait ended after 1s: no tunnel to any other cluster answers\n {2}fix: /
    )
    let asked = 0
    fake.handle('/v1/status', (response) => {
      const body = asked++ < 2 ? samples.UNJOINED : samples.STATUS
      response.end(JSON.stringify({ apiVersion: API_VERSION, ...body }))
    })
    const well = await cli('status', '--wait')
    assert.equal(well.code, 0)
    assert.match(well.stdout, /^Health +ok$/m)
    assert.ok(asked >= 3)
  })

  it('status --wait=<time> ends at that time, and not at that of --timeout; a wrong time is refused', async () => {
    fake.answer('/v1/status', { ...samples.STATUS, health: samples.ILL })
    const late = await cli('status', '--wait=1s', '--timeout', '1m')
    assert.equal(late.code, 6, late.stderr)
    assert.match(late.stderr, /error: --wait ended after 1s: .*\n {2}fix: .* wait longer with --wait=10m/)
    fake.answer('/v1/status', samples.STATUS)
    assert.equal((await cli('status', '--wait', '5m')).code, 0)
    const asked = fake.requests.length
    for (const wrong of ['--wait=0s', '--wait=5', '--wait=soon']) {
      const { code, stderr } = await cli('status', wrong)
      assert.equal(code, 2)
      assert.match(
        stderr,
        /^error: --wait: ".*" is not a time above zero\n {2}fix: (?:add a unit|use a time)/
      )
    }
    assert.equal(fake.requests.length, asked)
  })

  it('every list takes --no-headers', async () => {
    fake.answer('/v1/routes', samples.ROUTES)
    fake.answer('/v1/events', samples.EVENTS)
    fake.answer('/v1/dns', samples.ZONES)
    fake.answer('/v1/doctor', samples.DOCTOR)
    for (const list of ['routes', 'events', 'dns', 'doctor', 'drift']) {
      const { code, stdout } = await cli(list, '--no-headers')
      assert.ok(code === 0 || code === 1, list)
      assert.match(stdout, /\w {3,}\w/, `${list} has rows`)
      assert.doesNotMatch(stdout, /^[A-Z]{3,} +[A-Z]{3,}/m, `${list} has titles`)
    }
  })

  it('status --wait and --watch together are refused: one ends, the other does not', async () => {
    const asked = fake.requests.length
    const { code, stdout, stderr } = await cli('status', '--wait', '-w')
    assert.deepEqual([code, stdout], [2, ''])
    assert.match(
      stderr,
      /^error: --wait: it cannot be combined with --watch, which runs until Ctrl-C\n {2}fix: use --wait alone, and then `meshctl status --watch`\n$/
    )
    assert.equal(fake.requests.length, asked)
  })

  it('an unknown command is an error with the nearest name, with --help, too', async () => {
    const help = [
      ['peer', '--help'],
      ['--help', 'peer'],
      ['-h', 'peer'],
      ['--json', '-h', 'peer']
    ]
    for (const args of [...help, ['help', 'peer'], ['peer']]) {
      const run = await cli(...args)
      assert.equal(run.code, 2, args.join(' '))
      assert.match(run.stderr, /unknown command "peer"|unknown command \\"peer\\"/)
      assert.match(run.stderr, /Did you mean peers\?/)
    }
    for (const args of [['help', 'peers'], ['-h', 'peers'], ['-h'], ['invite', 'peer', '--help']])
      assert.equal((await cli(...args)).code, 0)
    for (const args of [
      ['trust', 'statsu', '--help'],
      ['help', 'trust', 'statsu'],
      ['trust', 'statsu']
    ]) {
      const { code, stderr } = await cli(...args)
      assert.equal(code, 2, args.join(' '))
      assert.match(
        stderr,
        /unknown command "trust statsu"\n {2}fix: Did you mean status\? `meshctl trust --help`/
      )
    }
  })

  it('help takes the name of a command below another one, and so do the fixes', async () => {
    assert.match((await cli('help', 'invite', 'create')).stdout, /^Usage: meshctl invite create /)
    assert.match((await cli('backup', 'create')).stderr, /'file'\n {2}fix: `meshctl backup create --help`/)
    assert.match((await cli('invite', '--help')).stdout, /`meshctl invite\s+create --help` has its flags/)
  })

  it('peers -o wide: adds node, version and peer ID', async () => {
    fake.answer('/v1/peers', samples.PEERS)
    const { stdout } = await cli('peers', '-o', 'wide')
    assert.match(stdout, /^CLUSTER +NODE +ROLE +STATE .* CONTROL +VERSION +PEER ID\n/)
    assert.match(stdout, /^east +gw-east +- +up .* connected +0\.1\.0 +12D3KooWeast$/m)
  })

  it('peers: tells the agents of one cluster apart by NODE', async () => {
    const [east] = samples.PEERS.peers
    assert.ok(east)
    fake.answer('/v1/peers', { peers: [east, { ...east, node: 'gw-east-2' }] })
    const { stdout } = await cli('peers')
    assert.match(stdout, /^east +gw-east +up .*\neast +gw-east-2 +up /m)
  })

  it('peers: an empty mesh leaves stdout empty and says what to do', async () => {
    fake.answer('/v1/peers', { peers: [] })
    const run = await cli('peers')
    assert.deepEqual(run, {
      code: 0,
      stdout: '',
      stderr: 'No peers yet. Invite a cluster: meshctl invite <cluster>\n'
    })
  })

  it('services: says that endpoints which terminate are used as fallback', async () => {
    const services = samples.SERVICES.services.map((row) => ({ ...row, ready: 0, fallback: 2, endpoints: 3 }))
    fake.answer('/v1/services', { services })
    assert.match((await cli('services')).stdout, / 0\/3, 2 used as fallback /)
  })

  it('services: shows ports, ready endpoints and the name', async () => {
    fake.answer('/v1/services', samples.SERVICES)
    await shows(
      `
CLUSTER   NAMESPACE   NAME   TYPE           CLUSTER IP    PORTS                       READY   DNS NAME
east      shop        web    ClusterIP      10.102.0.10   http:80/TCP,https:443/TCP   2/3     web.shop.svc.cluster.east
east      data        db     Headless       -             sql:5432/TCP                2/2     db.data.svc.cluster.east
west      shop        mail   ExternalName   -             -                           -       mail.shop.svc.cluster.west
`.trim(),
      'services'
    )
  })

  it('services: takes only those of a cluster and a namespace', async () => {
    fake.answer('/v1/services', samples.SERVICES)
    const { stdout } = await cli('services', '--cluster', 'east', '-n', 'data')
    assert.deepEqual(
      stdout.split('\n').map((line) => line.split(/ +/)[2]),
      ['NAME', 'db', undefined]
    )
    const none = await cli('services', '--cluster', 'nowhere', '-n', 'data')
    assert.deepEqual(none, {
      code: 0,
      stdout: '',
      stderr:
        'There is no service in namespace data of cluster nowhere. To list all services: meshctl services\n'
    })
  })

  it('a filter leaves the same rows out with -o json', async () => {
    fake.answer('/v1/services', samples.SERVICES)
    fake.answer('/v1/peers', samples.PEERS)
    fake.answer('/v1/routes', samples.ROUTES)
    for (const [command = '', ...flags] of [
      ['services', '--cluster', 'east'],
      ['services', '-n', 'data'],
      ['services', 'db'],
      ['peers', '--cluster', 'east'],
      ['routes', '--cluster', 'east']
    ]) {
      const all = JSON.parse((await cli(command, '-o', 'json')).stdout)[command].length
      const left = JSON.parse((await cli(command, ...flags, '-o', 'json')).stdout)[command].length
      const shown = (await cli(command, ...flags, '--no-headers')).stdout.trimEnd().split('\n')
      const lines = command === 'services' ? shown.filter((line) => /^[a-z]/.test(line)) : shown
      assert.ok(left > 0 && left < all, command)
      if (!flags.includes('db')) assert.equal(lines.length, left, `${command} ${flags.join(' ')}`)
    }
  })

  it('services <name>: shows which clusters answer the merged name, and why', async () => {
    const balanced = {
      namespace: 'shop',
      name: 'web',
      dnsName: 'web.shop.svc.cluster.all',
      address: '240.240.0.9',
      policy: 'failover=west,east',
      from: 'edge',
      overruled: [{ cluster: 'east', policy: 'only=east', reason: 'the policy of edge is in force' }],
      clusters: [
        {
          cluster: 'east',
          endpoints: 2,
          percent: 100,
          reason: 'it is the first in failover with an endpoint'
        },
        { cluster: 'west', endpoints: 0, percent: 0, reason: 'no tunnel to it is up' }
      ]
    }
    fake.answer('/v1/services', { ...samples.SERVICES, balanced: [balanced, { ...balanced, name: 'other' }] })
    const { stdout } = await cli('services', 'shop/web')
    assert.match(
      stdout,
      /web\.shop\.svc\.cluster\.all is 240\.240\.0\.9 here\. Policy of edge: failover=west,east\n/
    )
    assert.match(stdout, /east +100% +2 +it is the first in failover with an endpoint\n/)
    assert.match(stdout, /west +0% +0 +no tunnel to it is up\n/)
    assert.match(stdout, /The policy of east \(only=east\) is not in force: the policy of edge is in force\n/)
    assert.doesNotMatch(stdout, /other|mail/)
    const { services, balanced: rows } = JSON.parse((await cli('services', 'web', '-o', 'json')).stdout)
    assert.deepEqual([services.length, rows], [1, [balanced]])
    const policies = [
      { cluster: 'east', policy: 'nearby', reason: 'it has the unknown term "nearby": use nearest' }
    ]
    const unknown = {
      ...balanced,
      unknown: ['north'],
      conflict: 'exports of Service shop/web differ in ports'
    }
    const unbalanced = [{ namespace: 'mail', name: 'web', policies }]
    fake.answer('/v1/services', { ...samples.SERVICES, balanced: [unknown], unbalanced })
    const idle = (await cli('services', 'web')).stdout
    assert.match(idle, /^Conflict: exports of Service shop\/web differ in ports$/m)
    assert.match(idle, /The policy names north, which is no cluster of this mesh: /)
    assert.match(idle, /No policy of mail\/web is in force here: .* has the addresses of all clusters\.\n/)
    assert.match(idle, /The policy of east \(nearby\) is not in force: it has the unknown term "nearby"/)
    const plain = await cli('services', 'db')
    assert.match(plain.stdout, /No annotation rhizome\.io\/balance/)
    const none = await cli('services', 'nobody')
    assert.equal(none.stderr, 'There is no service named nobody. To list all services: meshctl services\n')
    assert.equal(none.code, 1)
    for (const flags of [
      ['-o', 'json'],
      ['-o', 'name'],
      ['-n', 'elsewhere']
    ])
      assert.equal((await cli('services', flags[0] === '-n' ? 'web' : 'nobody', ...flags)).code, 1)
  })

  it('services: never cuts a line when stdout is no terminal', async () => {
    const [service] = samples.SERVICES.services
    assert.ok(service)
    const dnsName = `${'a'.repeat(63)}.${'b'.repeat(63)}.svc.cluster.${'c'.repeat(63)}`
    fake.answer('/v1/services', { services: [{ ...service, dnsName }] })
    const { stdout } = await meshctl(['--socket', fake.socket, 'services'], { env: { COLUMNS: '40' } })
    assert.ok(stdout.includes(` ${dnsName}\n`))
    assert.equal(stdout.trimEnd().split('\n').length, 2)
  })

  it('services: the time that they take grows as their number does', async () => {
    const [service] = samples.SERVICES.services
    const msOf = async (length: number) => {
      fake.answer('/v1/services', { services: Array.from({ length }, () => service) })
      const started = performance.now()
      const { stdout } = await cli('services')
      assert.equal(stdout.split('\n').length, length + 2)
      return performance.now() - started
    }
    const few = Math.min(await msOf(500), await msOf(500))
    assert.ok((await msOf(10_000)) < 100 * few) // its square would be 400
  })

  it('events: shows what was refused from which peer, and only of one cluster on demand', async () => {
    fake.answer('/v1/events', samples.EVENTS)
    const all = await cli('events')
    assert.match(all.stdout, /^AGE +KIND +CLUSTER +PEER +COUNT +REASON\n/)
    assert.match(all.stdout, /\n\d+m(?:\d+s)? +refused +east +12D3KooWeast +31 +bad signature\n/)
    assert.match(
      all.stdout,
      /\n\d+m(?:\d+s)? +banned +east +12D3KooWeast +1 +too many malformed .* for 10 s\n/
    )
    assert.match(all.stdout, /\n\w+ +refused +- +12D3KooWstranger +1 +handshake mesh: /)
    const east = await cli('events', '--cluster', 'east')
    assert.equal(east.stdout.trim().split('\n').length, 3)
    const none = await cli('events', '--cluster', 'north')
    assert.deepEqual(
      [none.stdout, none.stderr],
      ['', 'There are no events of cluster north. To list all events: meshctl events\n']
    )
  })

  it('routes: shows why a prefix is not routed', async () => {
    fake.answer('/v1/routes', samples.ROUTES)
    await shows(
      `
DESTINATION     KIND      CLUSTER   VIA        STATE       REASON
10.2.0.0/16     pod       east      rhizome0   installed   -
10.3.0.0/16     pod       edge      -          conflict    east has an older certificate for 10.3.0.0/16
10.102.0.0/16   service   east      nftables   installed   -
`.trim(),
      'routes'
    )
  })

  it('dns: lists the zones', async () => {
    fake.answer('/v1/dns', samples.ZONES)
    await shows(
      `
ZONE           STATE        NAMES
cluster.all    serving      16
cluster.edge   not synced   0
`.trim(),
      'dns'
    )
    assert.equal(fake.requests.at(-1)?.url, '/v1/dns')
  })

  it('dns <name>: shows the records, and asks for the type in upper case', async () => {
    fake.answer('/v1/dns', samples.RECORDS)
    await shows(
      `
NAME                        TTL   TYPE   DATA
web.shop.svc.cluster.east   5     A      10.102.0.10
`.trim(),
      'dns',
      'web.shop.svc.cluster.east',
      '--type',
      'a'
    )
    assert.equal(fake.requests.at(-1)?.url, '/v1/dns?name=web.shop.svc.cluster.east&type=A')
  })

  it('dns <name>: tells no such name, no such record and not yet known apart', async () => {
    const rcodes = {
      NXDOMAIN: 'NXDOMAIN: x.cluster.east does not exist',
      NOERROR: 'NOERROR: x.cluster.east exists, but has no A record',
      SERVFAIL: 'SERVFAIL: the services of that cluster are not known here yet'
    }
    for (const [rcode, text] of Object.entries(rcodes)) {
      fake.answer('/v1/dns', { rcode, records: [] })
      const run = await cli('dns', 'x.cluster.east')
      assert.deepEqual(run, { code: rcode === 'NOERROR' ? 0 : 1, stdout: `${text}\n`, stderr: '' })
    }
  })

  for (const [what, answer, stdout, stderr, exitCode] of [
    [
      'names the upstream that answers',
      { rcode: 'NOERROR', forwarded: true, upstream: '192.0.2.53:53', records: [OUTSIDE] },
      /example\.com +60 +A +192\.0\.2\.7/,
      /forwarded to 192\.0\.2\.53:53/,
      0
    ],
    [
      'fails for a name that the upstream does not know',
      { rcode: 'NXDOMAIN', forwarded: true, upstream: '[fd00::2]:53', records: [] },
      /^NXDOMAIN: example\.com does not exist/,
      /forwarded to \[fd00::2\]:53/,
      1
    ],
    [
      'fails where no upstream answers',
      { rcode: 'SERVFAIL', forwarded: true, records: [] },
      /^SERVFAIL: no upstream server resolved example\.com/,
      /no upstream server answered/,
      1
    ],
    [
      'fails where the upstream refuses',
      { rcode: 'REFUSED', forwarded: true, upstream: '192.0.2.53:53' },
      /^REFUSED: the upstream/,
      /forwarded to/,
      1
    ],
    [
      'fails without an upstream',
      { rcode: 'REFUSED', forwarded: true },
      /^REFUSED: .*dns-upstream/,
      /no upstream server to forward/,
      1
    ],
    [
      'fails for a name of the mesh that is not there',
      { rcode: 'NXDOMAIN', forwarded: false },
      /^NXDOMAIN/,
      /^$/,
      1
    ],
    [
      'succeeds for a name without such a record',
      { rcode: 'NOERROR', forwarded: false },
      /^NOERROR/,
      /^$/,
      0
    ],
    [
      'names the upstream of an ExternalName',
      { rcode: 'NOERROR', forwarded: false, upstream: '192.0.2.53:53', records: [OUTSIDE] },
      /192\.0\.2\.7/,
      /The target is not a name of the mesh: forwarded to 192\.0\.2\.53:53/,
      0
    ]
  ] as const) {
    it(`dns <name>: ${what}`, async () => {
      fake.answer('/v1/dns', answer)
      const shown = await cli('dns', 'example.com')
      assert.match(shown.stdout, stdout)
      assert.match(shown.stderr, stderr)
      assert.equal(shown.code, exitCode)
      assert.equal((await cli('dns', 'example.com', '--json')).code, exitCode)
    })
  }

  it('dns <address>: asks for its name', async () => {
    fake.answer('/v1/dns', { rcode: 'NXDOMAIN' })
    await cli('dns', '10.102.0.10')
    assert.equal(fake.requests.at(-1)?.url, '/v1/dns?name=10.0.102.10.in-addr.arpa&type=PTR')
    await cli('dns', '2001:db8::1')
    assert.equal(
      fake.requests.at(-1)?.url,
      `/v1/dns?name=1.${'0.'.repeat(23)}8.b.d.0.1.0.0.2.ip6.arpa&type=PTR`
    )
  })

  it('plan: says that there is nothing to do', async () => {
    fake.answer('/v1/plan', samples.IN_STEP)
    await shows('no changes: the host is up to date', 'plan')
  })

  it('plan: shows each step with its commands, scripts with their line breaks', async () => {
    fake.answer('/v1/plan', samples.PLAN)
    await shows(
      `
# 3 steps

# + peer ZWFzdGVhc3RlYXN0ZWFzdGVhc3RlYXN0ZWFzdGVhc3Q= at 203.0.113.7:51820: 10.2.0.0/16
wg set rhizome0 peer ZWFzdGVhc3RlYXN0ZWFzdGVhc3RlYXN0ZWFzdGVhc3Q= endpoint 203.0.113.7:51820 allowed-ips 10.2.0.0/16

# + virtual server 10.102.0.10:80/TCP: 1 real server
nft -f - <<EOF
add element ip rhizome services { 10.102.0.10 . tcp . 80 : goto one }
EOF

# - route to pods 10.9.0.0/16
ip route del 10.9.0.0/16 dev rhizome0
`.trim(),
      'plan'
    )
  })

  it('status: shows one page', async () => {
    fake.answer('/v1/status', samples.STATUS)
    const { stdout } = await cli('status')
    assert.equal(
      stdout.replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/, '<time>'),
      `
Health          ok
Cluster         west
State           running, up 3h12m, meshd 0.1.0
Mesh            bafyreimesh
Peer ID         12D3KooWwest
WireGuard key   d2VzdHdlc3R3ZXN0d2VzdHdlc3R3ZXN0d2VzdHdlc3Q=
Pods            10.1.0.0/16
Services        10.101.0.0/16
Data plane      on: rhizome0, nftables
DNS             on: 10.1.0.1:53
Manifests       /etc/rhizome/manifests: 8 services, 9 endpoint slices
Mesh members    3 clusters, 2 control connections
Last pass       <time> (3d12h ago): 4 operations in 12 ms
`.trimStart()
    )
  })

  it('status: names every warning, and file and fix of every manifest problem', async () => {
    fake.answer('/v1/status', {
      ...samples.STATUS,
      dataplane: { state: 'off', reason: 'not root' },
      refused: { 'outside prefix': 12, other: 0 },
      health: samples.ILL,
      source: {
        ...samples.STATUS.source,
        problems: [
          {
            level: 'error',
            file: 'shop.yaml',
            where: 'Service shop/web',
            message: 'no port',
            fix: 'add spec.ports'
          },
          { level: 'error', file: 'bad.yaml', message: 'line 3: not YAML' },
          { level: 'warning', file: 'mail.yaml', message: 'no endpoints' }
        ]
      }
    })
    const { stdout } = await cli('status')
    assert.match(
      stdout,
      /^Health +critical, for \d+m\d*s?: no tunnel to any other cluster answers \(and 481 other faults: all in meshctl status\)\n/
    )
    assert.match(stdout, /^Data plane +off: not root$/m)
    assert.match(stdout, /^Manifests .*, 3 problems$/m)
    assert.match(stdout, /^Refused +outside prefix: 12$/m)
    assert.ok(
      stdout.replaceAll(/, for [\dms]+:/g, ', for <time>:').endsWith(`
Faults, the worst first
  - critical, for <time>: no tunnel to any other cluster answers
    fix: open UDP port 51820 between the gateways
  - warning, for <time>: the clock is 400 days off
    fix: timedatectl set-ntp true
  - and 480 more of TUNNEL_DOWN

Manifests that are ignored
  - shop.yaml, Service shop/web: no port
    fix: add spec.ports
  - bad.yaml: line 3: not YAML

Manifests that are used in spite of a warning
  - mail.yaml: no endpoints
`)
    )
  })

  it('status: has a refused manifest once, and a health that is not ok', async () => {
    const problem = {
      level: 'error' as const,
      file: 'a.yaml',
      where: 'line 2',
      message: 'no port',
      fix: 'add one'
    }
    fake.answer('/v1/status', {
      ...samples.STATUS,
      source: { ...samples.STATUS.source, problems: [problem] },
      health: {
        state: 'warning',
        faults: [
          {
            code: 'MANIFESTS',
            severity: 'warning',
            subject: 'a.yaml, line 2',
            message: 'a.yaml, line 2: no port',
            fix: 'add one',
            since: new Date().toISOString()
          }
        ],
        more: {}
      }
    })
    const { stdout } = await cli('status')
    assert.match(stdout, /^Health +warning, for \w+: a\.yaml, line 2: no port\n/)
    assert.equal(stdout.split('fix: add one').length, 2)
  })

  it('status: an agent in no mesh is told how to get into one', async () => {
    fake.answer('/v1/status', samples.UNJOINED)
    const { code, stdout } = await cli('status')
    assert.equal(code, 0)
    assert.match(stdout, /^State +in no mesh yet, up 42s/m)
    assert.match(stdout, /meshctl init --cluster [^]*\n.*meshctl join --token-file/)
    for (const line of stdout.split('\n')) assert.ok(line.length <= 80, line)
  })

  it('status: a token that no member has answered is shown, with what to do', async () => {
    fake.answer('/v1/status', { ...samples.UNJOINED, pendingToken: { cluster: 'east' } })
    const { stdout } = await cli('status')
    assert.match(
      stdout,
      /^Pending token +of cluster east: no member has answered; join again with the same token .*meshctl leave/m
    )
  })

  it('status: the data plane is not well while the last pass failed', async () => {
    fake.answer('/v1/status', {
      ...samples.STATUS,
      lastPass: { at: new Date().toISOString(), ops: 4, ms: 12, error: 'the name is in use' }
    })
    const { stdout } = await cli('status')
    assert.match(stdout, /^Data plane +on, but the last pass failed: rhizome0, nftables$/m)
  })

  it('status: names the field of a manifest once', async () => {
    const source = (where: string, message: string) => ({
      ...samples.STATUS.source,
      problems: [{ file: 'a.yaml', where, message, fix: 'mend it', level: 'error' as const }]
    })
    const cases = [
      ['line 1, Service shop/X: metadata.name', 'metadata.name "X" is wrong', 'line 1, Service shop/X'],
      ['Service shop/x: spec.ports[0].port', 'spec.ports[0].port is missing', 'Service shop/x'],
      ['Service shop/x: spec.type', 'there is none', 'Service shop/x: spec.type'],
      ['line 2', 'line 2 is malformed', 'line 2']
    ] as const
    for (const [where, message, shown] of cases) {
      fake.answer('/v1/status', { ...samples.STATUS, source: source(where, message) })
      assert.ok((await cli('status')).stdout.includes(`  - a.yaml, ${shown}: ${message}\n`), shown)
    }
  })

  it('version: shows both halves, and the first alone when meshd is away', async () => {
    fake.answer('/v1/status', samples.STATUS)
    const both = await cli('version')
    assert.match(both.stdout, /^meshctl +\d+\.\d+\.\d+.* \(API rhizome\.io\/v1, Node .*\)\nmeshd +0\.1\.0\n$/)
    const alone = await meshctl(['version', '--json', '--socket', `${fake.folder}/none.sock`])
    assert.equal(alone.code, 0)
    const answer = JSON.parse(alone.stdout)
    assert.equal(answer.apiVersion, API_VERSION)
    assert.equal(answer.agentError.code, 'AGENT_UNREACHABLE')
  })

  it('--json: prints the answer as it is, wherever the flag stands', async () => {
    const answers: Readonly<Record<string, object>> = {
      status: samples.STATUS,
      peers: samples.PEERS_IN_TROUBLE,
      services: samples.SERVICES,
      routes: samples.ROUTES,
      dns: samples.ZONES,
      plan: samples.PLAN
    }
    for (const [name, body] of Object.entries(answers)) {
      fake.answer(`/v1/${name}`, body)
      const wanted = JSON.parse(JSON.stringify({ apiVersion: API_VERSION, ...body }))
      for (const args of [
        ['--json', name],
        [name, '--json'],
        [name, '-o', 'json']
      ]) {
        const run = await cli(...args)
        assert.deepEqual(JSON.parse(run.stdout), wanted)
        assert.equal(run.stderr, '')
      }
    }
  })
})
