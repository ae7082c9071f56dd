// Ports of loopback for what listens later, in another process, or on UDP and TCP at once.
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'

/** Below the ephemeral ports of Linux (32768–60999, ip-sysctl "ip_local_port_range") and below the ports that tests name themselves. */
const [FIRST, LAST] = [12_000, 16_999]

let next = FIRST + Math.floor(Math.random() * (LAST - FIRST))

/**
 * A port that is free for UDP and TCP on every address of IPv4, another one at each call. It is not an ephemeral port: the kernel would give one
 * of those to a socket of anybody before the test listens, and a connection to one of those may get the same port as its own, and then talks to itself.
 * Errors: "no free port" after 100 that are taken.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = next
    next = next < LAST ? next + 1 : FIRST
    if (await isFree(port)) return port
  }
  throw new Error('no free port')
}

async function isFree(port: number): Promise<boolean> {
  const udp = createSocket('udp4')
  const tcp = createServer()
  try {
    udp.bind({ port, exclusive: true })
    await once(udp, 'listening')
    tcp.listen({ port, host: '0.0.0.0', exclusive: true })
    await once(tcp, 'listening')
    return true
  } catch {
    return false
  } finally {
    udp.close()
    if (tcp.listening) {
      tcp.close()
      await once(tcp, 'close')
    }
  }
}
