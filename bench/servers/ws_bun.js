// bun: bun ws_bun.js echo|broadcast PORT
const [mode, port] = process.argv.slice(2);

const echo = { message: (socket, data) => void socket.send(data) };
const broadcast = {
  open: (socket) => socket.subscribe('all'),
  message: (_, data) => void server.publish('all', data),
};

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(port),
  fetch: (request, server) => (server.upgrade(request) ? undefined : new Response('not a WebSocket', { status: 426 })),
  websocket: { perMessageDeflate: false, idleTimeout: 0, sendPings: false, ...(mode === 'broadcast' ? broadcast : echo) },
});
