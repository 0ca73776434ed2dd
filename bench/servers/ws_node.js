// Node's ws: node ws_node.js echo|broadcast PORT, with the package's folder in NODE_PATH.
const { WebSocketServer } = require('ws');

const [mode, port] = process.argv.slice(2);
const server = new WebSocketServer({ host: '127.0.0.1', port: Number(port), perMessageDeflate: false, backlog: 1024 });

server.on('connection', (socket) => {
  socket.on('error', () => {});
  if (mode === 'broadcast') {
    socket.on('message', (data, binary) => server.clients.forEach((client) => client.send(data, { binary })));
  } else {
    socket.on('message', (data, binary) => socket.send(data, { binary }));
  }
});
