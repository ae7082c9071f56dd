// A line between a client and the feed that can be cut: the port stays the same while feeds come and go behind it.
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

export interface FeedLine {
  readonly url: string
  /** Ends every connection; new ones are closed at once until `mend`. */
  cut(): void
  /** To this feed from now on. */
  mend(feedUrl: string): void
  stop(): Promise<void>
}

export async function startFeedLine(feedUrl: string): Promise<FeedLine> {
  let target: URL | undefined = new URL(feedUrl)
  const sockets = new Set<Socket>()
  const held = (socket: Socket): Socket => {
    sockets.add(socket)
    return socket.on('error', () => socket.destroy()).on('close', () => sockets.delete(socket))
  }
  const server = createServer((client) => {
    held(client)
    if (target === undefined) return client.destroy()
    const feed = held(connect(Number(target.port), target.hostname))
    client.pipe(feed).pipe(client)
    client.on('close', () => feed.destroy())
    feed.on('close', () => client.destroy())
    return undefined
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const cut = (): void => {
    target = undefined
    for (const socket of sockets) socket.destroy()
  }
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    mend: (url) => {
      target = new URL(url)
    },
    async stop() {
      cut()
      const closed = once(server, 'close')
      server.close()
      await closed
    }
  }
}
