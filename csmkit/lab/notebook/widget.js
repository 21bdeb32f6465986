// Connects the player to its widget.

export default () => {
  let engine = null; // one for each model: a player that is shown twice is heard once
  return {
    initialize({ model }) {
      engine = new Engine(model);
      return () => engine.close();
    },
    render({ el }) {
      const view = new View(engine, el);
      return () => view.close();
    },
  };
};
