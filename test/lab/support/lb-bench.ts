// The bench of the load balancer contract: namespaces client — host — pods, all real.
import type { LoadBalancer, Run } from '../../../src/io/host/ports.ts'
import { createRun } from '../../../src/io/host/tools/run.ts'
import {
  CLIENTS,
  PODS,
  PODS6,
  VIP_PREFIXES,
  counting,
  type Bench,
  type Question
} from '../../contract/load-balancer.ts'
import { patient } from './patient.ts'
import type { Lab, Namespace } from './netns.ts'
import { startAsker, startServers } from './lb-traffic-client.ts'

export interface LabBench extends Bench {
  readonly host: Namespace
  /** Runs in the host's namespace, uncounted. */
  readonly run: Run
  /** What a client sees, with the address that the server saw: "<ip> <port> <client>". */
  askFull(question: Question): Promise<readonly string[]>
}

export interface LabBenchOptions {
  readonly lab: Lab
  create(run: Run, host: Namespace): LoadBalancer
  foreign(run: Run): Promise<string>
  plantForeign(run: Run): Promise<void>
  tamper(run: Run): Promise<void>
}

/** The host's tools in a namespace of the lab, with deadlines as long as this machine needs. */
export function runIn({ name }: Namespace): Run {
  return patient(createRun({ prefix: ['ip', 'netns', 'exec', name] }))
}

/** Lives as long as the lab. */
export async function createLabBench(options: LabBenchOptions): Promise<LabBench> {
  const { lab } = options
  const [client, host, pods] = [
    await lab.namespace('client'),
    await lab.namespace('host'),
    await lab.namespace('pods')
  ]
  await lab.link(host, 'client', ['10.2.0.1/24', 'fd02::1/64'], client, 'eth0', [
    ...CLIENTS.map((ip) => `${ip}/24`),
    'fd02::2/64'
  ])
  await lab.link(host, 'pods', ['10.1.0.1/24', 'fd01::1/64'], pods, 'eth0', [
    ...PODS.map((ip) => `${ip}/24`),
    ...PODS6.map((ip) => `${ip}/64`)
  ])
  for (const [namespace, v4, v6] of [
    [client, '10.2.0.1', 'fd02::1'],
    [pods, '10.1.0.1', 'fd01::1']
  ] as const) {
    await namespace.exec(['ip', 'route', 'add', 'default', 'via', v4])
    await namespace.exec(['ip', 'route', 'add', 'default', 'via', v6])
  }
  await host.exec(['tee', '/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/ipv6/conf/all/forwarding'], {
    input: '1'
  })
  // One answer of the kernel's at a time is what refusals are measured by: its rate limit of ICMP errors is not ours.
  await host.exec(['tee', '/proc/sys/net/ipv4/icmp_ratelimit'], { input: '0' })
  await host.exec(['ip', 'route', 'add', 'local', VIP_PREFIXES[0] ?? '', 'dev', 'lo', 'src', '10.2.0.1'])
  await host.exec(['ip', '-6', 'route', 'add', 'local', VIP_PREFIXES[1] ?? '', 'dev', 'lo', 'src', 'fd02::1'])
  await startServers(pods, [...PODS, ...PODS6])
  const askFull = await startAsker(client)
  const run = runIn(host)
  const counted = counting(run)
  return {
    host,
    run,
    create: () => options.create(counted.run, host),
    writes: () => counted.writes(),
    askFull,
    ask: async (question) =>
      (await askFull(question)).map((answer) => answer.split(' ').slice(0, 2).join(' ')),
    foreign: () => options.foreign(run),
    plantForeign: () => options.plantForeign(run),
    tamper: () => options.tamper(run)
  }
}
