// A gateway that looks like a user's host, not like a fresh namespace: what others have there is what breaks a network product.
//
//   wan0 (of the lab)         the network in which the gateways meet
//   wan1 198.51.100.2/24      a second uplink, with the default route of IPv4 and, by router advertisement, of IPv6
//   docker0, br-5f3c0a1b2c3d  bridges with addresses, their masquerade, and a published port (DNAT for local addresses)
//   corp0, table 51820        another VPN, with a rule before ours
//   FORWARD                   policy drop, as Docker sets it; with what the product needs allowed, or not
//   My_Gateway-<ROLE>         a host name with capitals and an underscore
import { eventually } from '../../eventually.ts'
import type { Lab, Namespace } from './netns.ts'

export interface UserHostOptions {
  /** Of this host in the lab: [a-z0-9]+. */
  readonly role: string
  /** The tunnel's device, for the rules that let its packets pass. */
  readonly device: string
  /** Default true. False: another's FORWARD drops what comes out of the tunnel, which the product has to name. */
  readonly forwards?: boolean
}

export interface UserHost {
  /** The router behind the second uplink. */
  readonly router: Namespace
  readonly hostName: string
  /** Starts a program so that it sees the host name: goes before its command line. */
  readonly wrapper: readonly string[]
}

export const USER_NETWORKS = ['198.51.100.0/24', '172.17.0.0/16', '172.18.0.0/16', '10.200.0.0/16'] as const

/** Errors: what a command of the lab says. Everything goes with the lab. */
export async function makeUserHost(lab: Lab, host: Namespace, options: UserHostOptions): Promise<UserHost> {
  const { role, device, forwards = true } = options
  const router = await lab.namespace(`isp-${role}`)
  await lab.link(host, 'wan1', '198.51.100.2/24', router, 'lan', '198.51.100.1/24')
  await host.exec(['ip', 'route', 'add', 'default', 'via', '198.51.100.1', 'dev', 'wan1', 'metric', '100'])
  await advertise(host, router)
  await lab.bridge(host, 'docker0', '172.17.0.1/16')
  await lab.bridge(host, 'br-5f3c0a1b2c3d', '172.18.0.1/16')
  await lab.link(host, 'corp0', '10.200.0.2/32', router, 'corp0', '10.200.0.1/16')
  for (const command of VPN) await host.exec(['ip', ...command.split(' ')])
  await host.exec(['nft', '-f', '-'], { input: rules(forwards ? device : undefined) })
  const hostName = `My_Gateway-${role.toUpperCase()}`
  return {
    router,
    hostName,
    wrapper: ['unshare', '--uts', 'sh', '-c', NAMED, hostName]
  }
}

/** The kernel takes a default route from the router's advertisement, which needs the optional package koffi. */
async function advertise(host: Namespace, router: Namespace): Promise<void> {
  for (const [namespace, link] of [
    [host, 'wan1'],
    [router, 'lan']
  ] as const)
    await eventually(async () => {
      const show = ['ip', '-6', 'address', 'show', 'dev', link, 'scope', 'link']
      const { stdout } = await namespace.exec(show)
      return stdout.includes('fe80:') && !stdout.includes('tentative')
    })
  const program = new URL('router-advertisement.ts', import.meta.url).pathname
  await router.exec([process.execPath, program, 'lan'])
  await eventually(async () =>
    (await host.exec(['ip', '-6', 'route', 'show', 'default'])).stdout.includes('proto ra')
  )
}

// hostname(1) refuses the underscore that the kernel, and hosts of users, have.
const NAMED = 'echo "$0" >/proc/sys/kernel/hostname && exec "$@"'

const VPN = [
  'route add 10.200.0.0/16 dev corp0 table 51820',
  'rule add pref 5000 to 10.200.0.0/16 lookup 51820'
]

// As `iptables-nft -S` has it after an installation of Docker with a published port.
function rules(device: string | undefined): string {
  const ours =
    device === undefined ? '' : `iifname "${device}" counter accept; oifname "${device}" counter accept;`
  return `table ip nat {
  chain DOCKER { iifname "docker0" counter return; tcp dport 8088 counter dnat to 172.17.0.2:80; }
  chain PREROUTING { type nat hook prerouting priority dstnat; fib daddr type local counter jump DOCKER; }
  chain POSTROUTING {
    type nat hook postrouting priority srcnat;
    oifname != "docker0" ip saddr 172.17.0.0/16 counter masquerade;
    oifname != "br-5f3c0a1b2c3d" ip saddr 172.18.0.0/16 counter masquerade;
  }
}
table ip filter {
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
    ct state related,established counter accept;
    iifname "docker0" oifname != "docker0" counter accept;
    ${ours}
  }
}
`
}
